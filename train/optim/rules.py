"""Which parameter gets what: ordered regular expressions over parameter paths, and weight decay's default, by role.

A path joins the keys of the nested dict with dots: `stack.blocks.mixer.q.kernel`. A rule `(pattern, number)` takes
every path that `re.search` finds its pattern in and that no earlier rule took.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax

from arch.spec import Problem, Spec, SpecError

# Roles (`arch.params.ParamFactory.weight`) of tables whose rows are looked up.
TABLES = frozenset({"embedding", "position", "codebook"})
# Roles that do not decay by default whatever their rank; gains and biases of heads are matrices in shape.
UNDECAYED = TABLES | {"constant"}


@dataclasses.dataclass(frozen=True)
class Rules(Spec):
    """`Rules((("norm|bias", 0.0), (".*", 1.0)))`: the first pattern found in a path gives its number.

    None may be left over: `resolve` raises `SpecError` for a parameter that no rule matches and for a rule that
    decides nothing, unless it is one that matches every parameter.
    """

    rules: tuple[tuple[str, float], ...]

    def problems(self) -> Iterator[Problem]:
        if not self.rules:
            yield Problem("rules", self.rules, "must hold at least one (pattern, number)")
        for index, (pattern, number) in enumerate(self.rules):
            yield from pattern_problems(f"rules.{index}.0", pattern)
            if not 0 <= number < float("inf"):
                yield Problem(f"rules.{index}.1", number, "must be a finite number of at least 0")

    def resolve(self, paths: Iterable[str]) -> dict[str, float]:
        """Parameter path -> number, for all `paths`."""
        paths = list(paths)
        taken: dict[str, int] = {}
        for path in paths:
            for index, (pattern, _) in enumerate(self.rules):
                if re.search(pattern, path):
                    taken[path] = index
                    break
            else:
                raise SpecError(self, [Problem("rules", path, "no rule matches this parameter; end with ('.*', 1.0)")])
        for index in set(range(len(self.rules))) - set(taken.values()):
            pattern = self.rules[index][0]
            matched = [path for path in paths if re.search(pattern, path)]
            if not matched:
                raise SpecError(self, [Problem(f"rules.{index}", pattern, unmatched(paths))])
            if len(matched) < len(paths):
                earlier = self.rules[taken[matched[0]]][0]
                allowed = f"decides nothing, for rule {earlier!r} before it already takes {matched[0]}"
                raise SpecError(self, [Problem(f"rules.{index}", pattern, allowed)])
        return {path: float(self.rules[index][1]) for path, index in taken.items()}


def pattern_problems(field: str, pattern: str) -> Iterator[Problem]:
    """A problem if `pattern` is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        yield Problem(field, pattern, f"must be a regular expression ({error})")


def unmatched(paths: Iterable[str]) -> str:
    """What to say of a pattern that matches none of `paths`."""
    paths = list(paths)
    return f"matches no parameter; they are {', '.join(paths[:8])}{', ...' if len(paths) > 8 else ''}"


def decays(role: str, rank: int) -> bool:
    """The default for weight decay: matrices decay; gains, biases and lookup tables do not, whatever they are called.

    `role` is what the part that made the parameter said of it, `rank` the number of axes of one layer's. Tables are
    left out because a row gets a gradient only when it is looked up, while decay would pull at it every step; an
    untied output head decays, and so does a matrix of a role that is not known here.
    """
    return rank >= 2 and role not in UNDECAYED


def leaves_by_path(tree: Mapping[str, Any], is_leaf: Any = None) -> dict[str, Any]:
    """Dotted path -> leaf of a nested dict, in the order of `jax.tree.leaves`."""
    return {dotted(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]}


def dotted(keys: Iterable[Any]) -> str:
    """The dotted path of a key path through nested dicts."""
    return ".".join(str(key.key) for key in keys)

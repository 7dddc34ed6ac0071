"""Replicas: one run many times over in one program, differing in numbers alone.

A member is a row of values for numeric fields of the run: seeds, learning rates, initial scales. All members have one
shape, so the step of R of them is the step of one under `vmap`, with a leading axis R that is sharded over `replica`.
A member's parameters, its order of the data and its dropout are those of its lone run.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from arch.spec import Spec, UserError, flatten

VARIES = re.compile(r"seed|(start\.)+replica|(optimizer|objective|model(\.\w+)*\.init)\..+")
"""Fields that may differ between members: those that neither shapes nor the structure of the program depend on. A model
of several parts may have an initialiser in each: model.encoder.init.std. A replica may start from a replica."""

Values = Mapping[str, Any]
"""Path of a field -> its value: a number, or a traced scalar."""

Replace = Callable[[Any, str, Any], Any]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """R members, each with its own value for every path.

    Attributes:
      rows: path -> number, one mapping a member, all with the same paths.

    Raises:
      UserError: no members, paths that differ between them, or that may not vary.
    """

    rows: tuple[Mapping[str, float], ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise UserError("an ensemble needs at least one member")
        for row in self.rows:
            if set(row) != set(self.rows[0]):
                raise UserError(f"members must vary the same fields; found {sorted(row)} and {sorted(self.rows[0])}")
        for path in self.rows[0]:
            if not VARIES.fullmatch(path):
                raise UserError(f"{path}: cannot differ between the replicas of one program; make it an arm of its own")

    def __len__(self) -> int:
        return len(self.rows)

    def check(self, run: Spec) -> None:
        """Refuses paths that are no numeric field of `run`. Raises UserError."""
        fields = flatten(run)
        for path in self.rows[0]:
            value = fields.get(path)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                known = [name for name, v in fields.items() if VARIES.fullmatch(name) and isinstance(v, (int, float))]
                raise UserError(f"{path}: is no number of this run; numbers that may vary are {', '.join(known)}")

    def arrays(self) -> dict[str, np.ndarray]:
        """Path -> [R], int32 where all are whole by type (uint32 if int32 does not hold them), else float32."""
        return {path: _array([row[path] for row in self.rows]) for path in self.rows[0]}

    def seeds(self, run: Any) -> tuple[list[int], list[int]]:
        """The different seeds in use, and the place of each member's among them."""
        each = [int(row.get("seed", run.seed)) for row in self.rows]
        different = list(dict.fromkeys(each))
        return different, [different.index(seed) for seed in each]

    def lone(self, run: Any, index: int) -> Any:
        """The run that member `index` is, as one of its own."""
        return _all(run, self.rows[index], _checked)

    def describe(self, index: int) -> str:
        """What tells a member apart, as `seed=1, optimizer.learning_rate=0.003`."""
        return ", ".join(f"{path}={value:g}" for path, value in self.rows[index].items())


def substitute(spec: Any, values: Values) -> Any:
    """`spec` with other values at these paths, unchecked: they may be traced."""
    return _all(spec, values, _unchecked)


class MemberBatches(Iterator[dict[str, np.ndarray]]):
    """The batches of all members: every array with a leading axis R. `which` of the `batches` is each member's."""

    def __init__(self, batches: Sequence[Any], which: Sequence[int]):
        self._batches, self._which = list(batches), list(which)

    def __next__(self) -> dict[str, np.ndarray]:
        each = [next(batches) for batches in self._batches]
        return {name: np.stack([each[index][name] for index in self._which]) for name in each[0]}

    def get_state(self) -> dict[str, Any]:
        return {"seeds": [batches.get_state() for batches in self._batches]}

    def set_state(self, state: dict[str, Any]) -> None:
        for batches, one in zip(self._batches, state["seeds"], strict=True):
            batches.set_state(one)


def pick(tree: Any, index: int) -> Any:
    """Member `index` out of a tree of stacked arrays."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _all(spec: Any, values: Values, replace: Replace) -> Any:
    for path, value in values.items():
        spec = _put(spec, path.split("."), value, replace)
    return spec


def _array(values: Sequence[float]) -> np.ndarray:
    whole = all(isinstance(value, int) for value in values)
    large = whole and max(values) > np.iinfo(np.int32).max  # a seed, of which there are 2^32
    return np.asarray(values, np.uint32 if large else np.int32 if whole else np.float32)


def _put(node: Any, path: Sequence[str], value: Any, replace: Replace) -> Any:
    """`node` with `value` at `path`; `replace(spec, field, value)` makes a changed spec."""
    if not path:
        return value
    name, *rest = path
    if isinstance(node, tuple):
        return (*node[: int(name)], _put(node[int(name)], rest, value, replace), *node[int(name) + 1 :])
    return replace(node, name, _put(getattr(node, name), rest, value, replace))


def _checked(spec: Any, name: str, value: Any) -> Any:
    return dataclasses.replace(spec, **{name: value})


def _unchecked(spec: Any, name: str, value: Any) -> Any:
    new = copy.copy(spec)
    object.__setattr__(new, name, value)
    return new

"""What is wrong with a configuration, as lines: `--config.PATH=VALUE: what would be right`.

A line that starts with `--config.` quotes what the user typed. A line that starts with `config.` names a field
that came from the file or from a default.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from arch.spec import Problem, Spec, SpecError, UserError, walk

NOTHING: Any = object()
SHOWN = 60  # characters of a value that a line quotes


class ConfigError(UserError):
    """All the mistakes found in a configuration; `lines` has one for each."""

    def __init__(self, lines: Iterable[str]):
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))

    def __reduce__(self):
        return (ConfigError, (self.lines,))


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` most like `name`, whatever the case; "" where none is near."""
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    return by_lower[close[0]] if close else ""


def hint(name: str, names: Iterable[str]) -> str:
    """`; did you mean depth?`, or "" where nothing is near."""
    near = nearest(name, names)
    return f"; did you mean {near}?" if near else ""


def one_line(text: object) -> str:
    """The text of an error on one line."""
    return " ".join(str(text).split())


def place(path: str, given: Mapping[str, str | None], value: Any = NOTHING) -> str:
    """Where a mistake is: the flag as it was typed, and inside a part given as text also the field within it."""
    where, inside = path, ""
    while where not in given and where:
        where, _, name = where.rpartition(".")
        inside = f"{name}.{inside}" if inside else name
    field = inside if where in given else f"config.{path}" if path else "config"
    if field and value is not NOTHING:
        shown = repr(value)
        field += "=" + (shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "...")
    if where not in given:
        return field
    typed = given[where]
    flag = (
        f"--config.{where}" if typed is None else f"--config.{where}={one_line(typed) if chr(10) in typed else typed}"
    )
    return f"{flag}: {field}" if field else flag


def problem_line(problem: Problem, path: str, given: Mapping[str, str | None]) -> str:
    """The line of one `problem` of the spec at `path`; `given` has the texts typed on the command line by path."""
    where = ".".join(part for part in (path, problem.field) if part)
    return f"{place(where, given, problem.value)}: {problem.allowed}"


def spec_error_lines(error: SpecError, root: Any, given: Mapping[str, str | None] | None = None) -> list[str]:
    """Lines for a SpecError raised while the configuration `root` was built, with the path of the spec at fault.

    The spec is found by identity, else as the only one equal to it, else as the only one of its class (a build may
    derive one spec from another). Where the configuration has no such spec, its class stands for the path.
    """
    return [line for _, line in placed_lines(error, root, given or {})]


def placed_lines(error: SpecError, root: Any, given: Mapping[str, str | None]) -> list[tuple[str | None, str]]:
    """As `spec_error_lines`, each line with the path that it is about; None where that is unknown."""
    path = _find(error.node, root)
    if path is None:
        return [(None, line) for line in str(error).splitlines()]
    paths = [".".join(part for part in (path, problem.field) if part) for problem in error.problems]
    return [(where, problem_line(problem, path, given)) for where, problem in zip(paths, error.problems, strict=True)]


def _find(node: Any, root: Any) -> str | None:
    specs = [(path, spec) for path, spec in walk(root) if isinstance(spec, Spec)]
    for path, spec in specs:
        if spec is node:
            return path
    kind = node if isinstance(node, type) else type(node)
    equal = [path for path, spec in specs if type(spec) is kind and spec == node]
    alike = [path for path, spec in specs if type(spec) is kind]
    for found in (equal, alike):
        if len(found) == 1:
            return found[0]
    return None

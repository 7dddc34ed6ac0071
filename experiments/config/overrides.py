"""Typed overrides: `--config.PATH=VALUE` onto a tree of frozen specs, with all mistakes reported together.

Overrides are grouped by node. A part given by name replaces the node first, whatever its place on the command line,
and takes nothing over from the part it replaces; then the fields of the node are set, and the tree is rebuilt from
the leaves to the root so that every spec checks itself. What is wrong does not stop the rest from being applied:
the checks of every spec on the way, and the cross-checks of the root, are made on all the good overrides.
Of several overrides of one path the last counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from arch.spec import Problem, Spec, SpecError, UserError
from experiments.config.errors import ConfigError, placed_lines, problem_line
from experiments.config.rebuild import Rebuild, Tree


@dataclasses.dataclass(frozen=True)
class Override:
    """One `--config.PATH=TEXT`; `text` is None where the flag stood alone, which means true."""

    path: str
    text: str | None


def apply(spec: Spec, overrides: Iterable[Override]) -> Spec:
    """The configuration `spec` with `overrides`, checked also as a whole by its `conflicts()` if it has them.

    Raises ConfigError with a line for each mistake, in the order of the command line.
    """
    overrides = list(overrides)
    work = Rebuild({override.path: override.text for override in overrides})
    tree = Tree()
    for override in overrides:
        names = override.path.split(".")
        if not all(names):
            work.mistake(override.path, "an empty name in the path")
            continue
        node = tree
        for name in names:
            node = node.children.setdefault(name, Tree())
        node.given, node.text = True, override.text
    result = work.value(spec, type(spec), tree, "")
    for where, line in conflicts(result, work.given):
        if where is None or not work.is_tainted(where):  # else it judges what stands in for a bad override
            work.lines.append((None, line))
    if work.lines:
        order = {path: index for index, path in enumerate(work.given)}
        ranked = sorted(work.lines, key=lambda entry: order.get(entry[0] or "", len(order)))
        raise ConfigError(dict.fromkeys(line for _, line in ranked))
    return result


def conflicts(root: Any, given: Mapping[str, str | None]) -> list[tuple[str | None, str]]:
    """(path if known, line) for what the method `conflicts` of `root` yields or raises: Problem, SpecError or text."""
    lines: list[tuple[str | None, str]] = []
    try:
        for found in getattr(root, "conflicts", tuple)():
            if isinstance(found, Problem):
                lines.append((found.field, problem_line(found, "", given)))
            elif isinstance(found, SpecError):
                lines += placed_lines(found, root, given)
            else:
                lines.append((None, str(found)))
    except SpecError as error:
        lines += placed_lines(error, root, given)
    except UserError as error:
        lines += [(None, line) for line in str(error).splitlines()]
    return lines

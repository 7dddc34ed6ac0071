"""One Python file of several: the imports of all at the top, then each after what it needs.

A source is the name of a file in `source/`, or a text. What it imports relatively is a source that goes before it.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

SOURCES = Path(__file__).parent / "source"
APART = ("configuration",)
"""Sources that become files of their own; what is imported of them stays an import."""


@functools.cache
def text_of(source: str) -> str:
    """The text of a source."""
    return source if "\n" in source else (SOURCES / f"{source}.py").read_text(encoding="utf-8")


def needs(source: str) -> list[str]:
    """What a source imports relatively, in order."""
    tree = ast.parse(text_of(source))
    return [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.level and node.module]


def ordered(sources: Iterable[str]) -> list[str]:
    """The sources with all that they need, each once and after what it needs."""
    found: dict[str, None] = {}

    def visit(source: str) -> None:
        if source in found or source in APART:
            return
        for other in needs(source):
            visit(other)
        found[source] = None

    for source in sources:
        visit(source)
    return list(found)


def compose(sources: Iterable[str], title: str, kinds: Mapping[str, str], constants: Mapping[str, str]) -> str:
    """The text of the file.

    Args:
      sources: what it is made of, whatever they need beside.
      title: its docstring.
      kinds: kind of a part -> name of its class, written as `PARTS` at the end; empty: none is.
      constants: name that stands in a source -> what is written for it.
    """
    plain: dict[str, None] = {}
    named: dict[str, set[str]] = {}
    bodies = []
    for source in ordered(sources):
        text = text_of(source)
        tree, lines = ast.parse(text), text.splitlines()
        taken: set[int] = set()
        for number, node in enumerate(tree.body):
            span = range(node.lineno - 1, node.end_lineno or node.lineno)
            if isinstance(node, ast.Import):
                plain |= {ast.unparse(node): None}
            elif isinstance(node, ast.ImportFrom) and (not node.level or node.module in APART):
                module = f"{'.' * node.level}{node.module}{'_strata' if node.level else ''}"
                names = {ast.unparse(ast.ImportFrom(None, [alias], 0)).split("import ")[1] for alias in node.names}
                named.setdefault(module, set()).update(names)
            elif not isinstance(node, ast.ImportFrom) and not (number == 0 and ast.get_docstring(tree)):
                continue
            taken |= set(span)
        kept = "\n".join(line for number, line in enumerate(lines) if number not in taken).strip("\n")
        said = "\n".join(f"# {line}".rstrip() for line in (ast.get_docstring(tree) or "").splitlines())
        bodies.append(f"{said}\n\n{kept}" if said else kept)
    body = re.sub(r"\n{4,}", "\n\n\n", "\n\n\n".join(bodies))
    body = re.sub(r"[ \t]*# noqa:.*$", "", body, flags=re.M)
    for name, value in constants.items():
        body = re.sub(rf"\b{name}\b", lambda _, value=value: value, body)  # type: ignore[misc]
    froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(named.items())]
    groups: dict[int, list[str]] = {}
    for line in [*sorted(plain), *froms]:
        module = line.split()[1]
        own = module.partition(".")[0] in sys.stdlib_module_names
        groups.setdefault(2 if module.startswith(".") else 0 if own else 1, []).append(line)
    imports = "\n\n".join("\n".join(groups[rank]) for rank in sorted(groups))
    found = [f'"""{title}"""', imports + "\n", body]
    if kinds:
        rows = "".join(f'    "{kind}": {name},\n' for kind, name in sorted(kinds.items()))
        found.append(f"\nPARTS = {{\n{rows}}}")
    return "\n\n".join(found) + "\n"

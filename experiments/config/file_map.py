"""The list of all files, each with the sentence that it begins with: `docs/map.md`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from experiments.config.load import ROOT

ROOMS = ("arch", "train", "experiments", "bench")


def file_map(root: Path = ROOT) -> str:
    """Headings are rooms, with what their package says of itself; below them their files."""
    lines = ["# Every file in a sentence", "", "The one it begins with, by room. Written by `make golden`."]
    for folder in sorted({file.parent for room in ROOMS for file in (root / room).rglob("*.py")}):
        files = list(_files(folder, root))
        if files:
            about = _head(folder / "__init__.py")
            lines += ["", f"## {folder.relative_to(root).as_posix()}/", "", *([about, ""] if about else []), *files]
    return "\n".join([*lines, ""])


def _files(folder: Path, root: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"- [{file.name}](../{file.relative_to(root).as_posix()}): {_head(file)}"


def _head(file: Path) -> str:
    return sentence(ast.get_docstring(ast.parse(file.read_text()))) if file.exists() else ""


def sentence(doc: str | None) -> str:
    """The first sentence of a docstring, its lines joined."""
    text = inspect.cleandoc(doc or "").split("\n\n")[0].replace("\n", " ")
    first = re.match(r".*?[.:](?= [A-Z]|$)", text)
    return first[0] if first else text

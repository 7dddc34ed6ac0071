"""A configuration as people read it: files in the run folder, and a tree for the terminal.

A run folder gets `config.txt` (one `path = value` a line), `config.diff.txt` (what the command line changed of the
file's configuration, with the command's reference on the first line) and `config.json` (read back by `read`), sealed by
who wrote it (`seal`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch.spec import Spec, UserError, children, differences, flatten, to_text
from experiments.config import seal
from experiments.config.errors import one_line
from experiments.config.stored import from_json, to_json

if TYPE_CHECKING:
    from rich.tree import Tree

_ABSENT = object()
TEXT, DIFFERENCE, JSON, SEAL = "config.txt", "config.diff.txt", "config.json", "config.json.seal"


def write(folder: Any, spec: Spec, original: Spec | None = None, reference: str = "") -> None:
    """Writes these files into `folder` (a path, also gs://), which is made if need be.

    Args:
      folder: the run folder.
      spec: the resolved configuration.
      original: the file's own; None: the same.
      reference: the file and argument, `FILE.py[:ARGUMENT]`.
    """
    from etils import epath

    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    changed = differences(spec if original is None else original, spec)
    header = f"# {reference}\n" if reference else ""
    (folder / TEXT).write_text(to_text(spec))
    (folder / DIFFERENCE).write_text(header + "".join(f"{line}\n" for line in changed))
    content = to_json(spec).encode()
    (folder / SEAL).write_text(seal.of(content) + "\n")
    (folder / JSON).write_bytes(content)


def read(folder: Any, *, trust: bool = False) -> Spec:
    """The configuration of a run folder.

    Args:
      folder: of a run or a study, also `gs://`.
      trust: whether it is taken for one's own. Otherwise only one that this user wrote on this machine may name code
        that is not Strata's, and then not what lies in the folder itself.

    Raises:
      UserError: there is none, or none that can be read, or it names code that is not trusted.
    """
    from etils import epath

    file = epath.Path(folder) / JSON
    if not file.exists():
        raise UserError(f"{folder}: holds no {JSON}; is it a run folder?")
    try:
        content = file.read_bytes()
        text = content.decode()
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({one_line(error)})") from error
    return from_json(text, str(file), trust=trust or _is_own(file, content))


def _is_own(file: Any, content: bytes) -> bool:
    """Whether this user wrote the configuration, and none of the code that it names lies beside it."""
    beside = file.parent / SEAL
    try:
        if not seal.fits(content, beside.read_text().strip()):
            return False
    except (OSError, ValueError):
        return False
    folder = Path(str(file.parent)).resolve()
    return not any(Path(one).resolve().is_relative_to(folder) for one in json.loads(content)["files"].values())


def changes(folder: Any, spec: Spec) -> list[str]:
    """Lines `path: old -> new` where `spec` differs from what the run folder holds; none for a folder without a run."""
    from etils import epath

    return differences(read(folder), spec) if (epath.Path(folder) / JSON).exists() else []


def pretty(spec: Spec, original: Spec | None = None) -> Tree:
    """The configuration as a rich tree. Values that differ from `original` are marked, with what they were."""
    from rich.tree import Tree

    before = flatten(spec if original is None else original)
    tree = Tree(f"[bold]{type(spec).__name__}[/]", guide_style="dim")
    _grow(tree, spec, "", before)
    return tree


def _grow(tree: Tree, node: Any, path: str, before: dict[str, Any]) -> None:
    from rich.markup import escape

    for name, value in children(node):
        below = f"{path}.{name}" if path else name
        is_spec = isinstance(value, Spec)
        holds_specs = not is_spec and any(isinstance(item, (Spec, tuple)) for _, item in children(value))
        now = type(value).__name__ if is_spec else value
        label = f"{escape(name)} [bold]{now}[/]" if is_spec else escape(name)
        if not is_spec and not holds_specs:
            label += f" = {escape(repr(value))}"
        if not holds_specs and before.get(below, _ABSENT) != now:
            was = f"was {before[below]!r}" if below in before else "new"
            label = f"[yellow]{label}[/] [dim]({escape(was)})[/]"
        branch = tree.add(label)
        if is_spec or holds_specs:
            _grow(branch, value, below, before)

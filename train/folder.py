"""The folder of a run: is it new, this run's, or something else's?

`run.json` marks a run folder and holds the configuration, one `"path": "value"` a line. A run is resumed by the same
command with the same folder; with another configuration it would silently become a mixture of two, so that is refused.
"""

from __future__ import annotations

import json
import os
from typing import Any

from etils import epath

from arch.spec import Spec, UserError, differences, flatten
from train.members import Members

FILE = "run.json"
FREE = ("reports", "mesh")
"""Fields that a resumed run may change: what is written down and when, and how devices are laid out (results then
differ in rounding alone)."""


def check(folder: epath.PathLike, run: Spec, members: Members | None = None) -> bool:
    """Whether `folder` holds an earlier part of `run`, or of its `members`. Touches nothing.

    Raises:
      UserError: it holds another configuration, or something that is no run, or cannot be written.
    """
    folder = epath.Path(folder)
    if not holds(folder, FILE, "run"):
        return False
    try:
        before = json.loads((folder / FILE).read_text())["fields"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE}: cannot be read ({error}); give another run folder") from error
    changed = differences(before, _fields(run, members))
    if changed:
        raise UserError("\n".join([f"{folder}: holds a run with another configuration; give another folder, or undo:"]
                                  + [f"  {line}" for line in changed]))  # fmt: skip
    return True


def holds(folder: epath.PathLike, marker: str, what: str) -> bool:
    """Whether `folder` is one of a `what`, which the file `marker` tells. Touches nothing.

    Raises:
      UserError: it is something else, or cannot be written.
    """
    folder = epath.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder for the {what}, or a name that is not taken")
    _refuse_unwritable(folder)
    if not folder.exists() or (folder / marker).exists():
        return folder.exists()
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(marker))
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise UserError(f"{folder}: is no {what} folder, yet not empty ({shown}); give a new or empty folder")
    return False


def mark(folder: epath.PathLike, run: Spec, members: Members | None = None) -> None:
    """Makes `folder` and writes `run.json` in one go. Raises UserError if it cannot."""
    folder = epath.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / (FILE + ".new")
        new.write_text(json.dumps({"format": 1, "fields": _fields(run, members)}, indent=1) + "\n")
        new.replace(folder / FILE)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _fields(run: Spec, members: Members | None) -> dict[str, str]:
    """What a resumed run must have in common with its beginning."""
    fields = {path: str(value) for path, value in flatten(run).items() if path.partition(".")[0] not in FREE}
    return fields | ({} if members is None else {"members": str([dict(row) for row in members.rows])})


def _refuse_unwritable(folder: Any) -> None:
    if "://" in str(folder):
        return  # only the store can say, and does when it is written to
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise UserError(f"{folder}: {parent} is a file, so no folder can be made there")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: you may not write to {parent}; give another run folder")

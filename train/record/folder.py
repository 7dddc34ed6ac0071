"""The folder of a run: is it new, this run's, or something else's?

`run.json` marks a run folder and holds the identity of the run (`train.record.identity`): the configuration, one
`"path": "value"` a line, the content of the data, and the code. A run is resumed by the same command with the same
folder; with another configuration or other code it would silently become a mixture of two, so that is refused.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from arch import renames
from arch.spec import Spec, UserError
from train.ensemble import Ensemble
from train.record.confined import confined
from train.record.identity import Identity, defaults, identify, old_fields, other_code

FILE = "run.json"
FORMAT = 2  # 1: classes by their bare names, no data and no code
FREE = ("logging", "reports", "mesh")  # reports: the first name of logging
"""Fields that a resumed run may change: what is written down and when, and how devices are laid out (results then
differ in rounding alone)."""


def invalid(line: str) -> None:
    """What `check` does about other code by default: a UserError."""
    raise UserError(f"{line}; give another folder, or --trust_cells to go on with it all the same")


def check(
    folder: epath.PathLike,
    run: Spec,
    ensemble: Ensemble | None = None,
    *,
    other: Callable[[str], None] = invalid,
    writes: bool = True,
) -> bool:
    """Whether `folder` holds an earlier part of `run`, or of its `ensemble`. Touches nothing.

    Args:
      folder: a run folder, or none yet.
      run: what to compare it with.
      ensemble: what the replicas of the run differ in.
      other: called with one line if nothing but the code differs.
      writes: whether the folder is to be written to.

    Raises:
      UserError: it holds another configuration or other data, or something that is no run, or cannot be written.
    """
    folder = epath.Path(folder)
    if not holds(folder, FILE, "run", writes=writes):
        return False
    try:
        before = _read((folder / FILE).read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder / FILE}: cannot be read ({error}); give another run folder") from error
    now = _identity(run, ensemble)
    if before.code is None:  # data and start were not noted either
        now = dataclasses.replace(now, fields=_resumed(old_fields(run), ensemble), data=before.data, start=before.start)
    new = {path: now.fields[path] for path in defaults(run) if path in now.fields}
    changed = dataclasses.replace(before, fields=new | dict(before.fields)).changed(now)
    if changed:
        raise UserError("\n".join([f"{folder}: holds a run with another configuration; give another folder, or undo:"]
                                  + [f"  {_printable(line)}" for line in changed]))  # fmt: skip
    code = other_code(before.code, now.code)
    if code:
        other(f"{folder}: holds a run of other code ({_printable(code)})")
    return True


def _printable(text: str) -> str:
    """A text of a folder that somebody may have sent, as a terminal may show it."""
    return text if text.isprintable() else repr(text)


def _read(text: str) -> Identity:
    """The identity that `run.json` holds, by present names; that of format 1 by the first names and without code."""
    stored = json.loads(text)
    if stored["format"] == 1:
        return Identity(dict(stored["fields"]), (), None, None)
    if stored["format"] != FORMAT:
        raise ValueError(f"it has format {stored['format']!r}; this version reads {FORMAT}")
    return Identity(renames.present(stored["fields"]), stored["data"], stored["start"], dict(stored["code"]))


def holds(folder: epath.PathLike, marker: str, what: str, *, writes: bool = True) -> bool:
    """Whether `folder` is one of a `what`, which the file `marker` tells. Touches nothing.

    Raises:
      UserError: it is something else; or, if `writes`, it cannot be written, or would be outside of it (`confined`).
    """
    folder = epath.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder for the {what}, or a name that is not taken")
    if writes:
        _refuse_unwritable(folder)
        confined(folder)
    if not folder.exists() or (folder / marker).exists():
        return folder.exists()
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(marker))
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise UserError(f"{folder}: is no {what} folder, yet not empty ({shown}); give a new or empty folder")
    return False


def mark(folder: epath.PathLike, run: Spec, ensemble: Ensemble | None = None) -> None:
    """Makes `folder` and writes `run.json` in one go. Raises UserError if it cannot."""
    folder = epath.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / (FILE + ".new")
        body = {"format": FORMAT, **dataclasses.asdict(_identity(run, ensemble))}
        new.write_text(json.dumps(body, indent=1) + "\n")
        new.replace(folder / FILE)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _identity(run: Spec, ensemble: Ensemble | None) -> Identity:
    """What a resumed run must have in common with its beginning."""
    whole = identify(run)
    return dataclasses.replace(whole, fields=_resumed(whole.fields, ensemble))


def _resumed(fields: Mapping[str, str], ensemble: Ensemble | None) -> dict[str, str]:
    kept = {path: value for path, value in fields.items() if path.partition(".")[0] not in FREE}
    return kept | ({} if ensemble is None else {"members": str([dict(row) for row in ensemble.rows])})


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

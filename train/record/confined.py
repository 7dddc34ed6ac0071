"""What is kept in a folder stays in it: links that lead out of it are refused before anything is written.

A folder that somebody sent may hold `damaged`, `checkpoints` or `report.html` as a link to anywhere; what is written,
moved or cleared there would be so at the other end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from etils import epath

from arch.spec import UserError


def confined(folder: epath.PathLike, *names: str) -> None:
    """To be called before `folder` is written to.

    Args:
      folder: of a run or a study, or of a report; a store, `gs://`, has no links.
      names: what is written in it; none: everything.

    Raises:
      UserError: a link in it, at any depth, leads out of it.
    """
    root = os.fspath(folder)
    if "://" in root or not os.path.isdir(root):
        return
    inside = os.path.realpath(root)
    for path in _links(root, set(names)):
        target = os.path.realpath(path)
        if target != inside and not target.startswith(inside.rstrip(os.sep) + os.sep):
            raise UserError(f"{path}: is a link to {target}, which is not in {root}; nothing is written through it: "
                            "replace it by what it leads to, or give another folder")  # fmt: skip


def _links(folder: str, names: set[str]) -> Iterator[str]:
    """The links in a folder and below it, those of `names` and below them if there are any."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # gone, or not to be read, so not to be written either
        return
    for entry in entries:
        if names and entry.name not in names:
            continue
        if entry.is_symlink():
            yield entry.path
        elif entry.is_dir(follow_symlinks=False):
            yield from _links(entry.path, set())

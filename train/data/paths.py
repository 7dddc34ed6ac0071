"""Names of files as they are given: `~` is the home folder, and a path that exists is itself, whatever it looks like.

Only what is meant as a pattern, the files of a source, is ever one, and of that only what follows the folders that
exist: `runs/s[1]/*.txt` reads the folder `s[1]` where there is one.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path

from arch.spec import UserError


def expanded(name: str | os.PathLike[str]) -> Path:
    """The path that `name` is, with the home folder for `~`."""
    return Path(name if "\0" in os.fspath(name) else os.path.expanduser(name))


def matching(name: str) -> list[Path]:
    """The regular files that `name` is or matches, sorted. Raises UserError if there are none."""
    path = expanded(name)
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; name the files in it, e.g. {path}/**/*.txt")
    if os.path.isfile(path):
        return [path]
    if os.path.exists(path):
        raise UserError(f"{path} is no regular file; documents are read more than once, so write them to one")
    if "\0" in name or not glob.has_magic(str(path)):
        raise UserError(f"no such file: {path} (looked from {Path.cwd()})")
    there = next((above for above in path.parents if os.path.isdir(above)), Path())
    pattern = os.path.join(glob.escape(str(there)), path.relative_to(there))
    found = sorted(Path(one) for one in glob.glob(pattern, recursive=True) if os.path.isfile(one))
    if not found:
        raise UserError(f"no file matches {path} (looked from {Path.cwd()})")
    return found

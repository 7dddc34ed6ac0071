"""The cache: folders named by what they hold, made once, whole or not at all.

An entry is made in a temporary folder beside its place, sealed with a manifest of sizes and SHA-256 sums, and renamed.
A process that is killed leaves no entry; a damaged entry is found by its manifest and made again; two processes that
want the same entry wait for each other where the file system has locks, and otherwise the first rename wins.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arch.spec import UserError
from train.data.paths import expanded

MANIFEST = "manifest.json"
_log = logging.getLogger(__name__)


def root() -> Path:
    """$STRATA_CACHE, or ~/.cache/strata."""
    return expanded(os.environ.get("STRATA_CACHE") or "~/.cache/strata")


def digest(*parts: Any) -> str:
    """A short content name (24 hexadecimal digits) of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `kind`/`key` of the cache; if it is absent or damaged, `make(folder)` fills a new one.

    Raises UserError if the cache cannot be written. `make` must itself translate trouble with what it reads.
    """
    target = root() / kind / key
    if intact(target):
        return target
    try:
        with alone(target) as locked:
            if not intact(target):
                _make(target, make, locked)
    except OSError as error:
        raise UserError(f"cannot write the cache {root()}: {error.strerror or error}; set STRATA_CACHE to a folder "
                        "that you may write to, on a disk with room") from error  # fmt: skip
    return target


def intact(folder: Path) -> bool:
    """Whether the entry is complete and holds what was written into it."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all(
            (folder / name).stat().st_size == size and file_sha256(folder / name) == sha for name, size, sha in files
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(target: Path, make: Callable[[Path], None], locked: bool) -> None:
    prefix = f".{target.name}.tmp-"
    if locked:
        for leftover in target.parent.glob(glob.escape(prefix) + "*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        make(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listing = [[str(path.relative_to(folder)), path.stat().st_size, file_sha256(path)] for path in files]
        (folder / MANIFEST).write_text(json.dumps({"files": listing}))
        if target.exists() and not intact(target):
            _log.warning("%s in the cache was damaged; it was made again", target)
            shutil.rmtree(target)
        try:
            folder.rename(target)
        except OSError:
            if not intact(target):  # otherwise another process was first, with the same content
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def alone(target: Path) -> Iterator[bool]:
    """Holds the lock file of `target`; yields False where the platform or the file system has no locks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with (target.parent / f".{target.name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
            held = True
        except OSError:
            held = False
        yield held

"""What this process does to the file system and which modules it begins to import, by Python's audit events."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree"}
PAIRS = {"os.rename", "os.link", "os.symlink", "shutil.move", "shutil.copyfile"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Seen:
    """Paths that were written, made, moved or removed, and modules that an import was begun of."""

    changed: list[Path] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def within(self, folder: Path) -> list[Path]:
        """Those of `changed` that are in `folder`."""
        return [path for path in self.changed if path.is_relative_to(folder.resolve())]


_watching: list[Seen] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    seen = _watching[-1]
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, mode, flags = arguments
        if (flags or 0) & WRITES if mode is None else set(mode) & set("wxa+"):
            seen.changed.append(_place(path))
    elif event in CHANGES | PAIRS:
        paths = arguments[: 2 if event in PAIRS else 1]
        seen.changed += [_place(path) for path in paths if isinstance(path, (str, bytes, os.PathLike))]
    elif event == "import":
        seen.imported.append(arguments[0])
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        seen.started.append(str(arguments[0]))


def _place(path: Any) -> Path:
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    return Path(os.path.realpath(folder)) / name


sys.addaudithook(_hook)


@contextmanager
def watch() -> Iterator[Seen]:
    """Notes what is done while it is entered, in all threads of this process."""
    seen = Seen()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every path in a folder, with what tells that it was touched; for what is not done by Python."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        about = path.lstat()
        found[str(path.relative_to(folder))] = (about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns)
    return found

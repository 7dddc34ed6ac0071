"""A lock on a run folder: only one process, or one group of processes that train together, writes there.

`run.json.lock` holds host, process, its start and a heartbeat. The second of two is refused. A lock whose holder is
dead is taken over: on the holder's own host when there is no such process any more, as after SIGKILL or a reboot;
seen from elsewhere when the heartbeat has stopped for STALE seconds, by clocks that are taken to agree.

Whether a lock may be taken is looked up and acted upon under `flock` on the same file, so that two processes that start
at once do not both find it free; the kernel ends that with the process. Where there is no `flock` (some shared disks,
gs://) each writes its claim and looks after a moment whose it is: the last one stays. A holder that was taken for dead
(a machine that slept) finds another's name in the lock and writes no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from arch.spec import UserError
from train.record.process import born, host, place
from train.runtime.distributed import agreed, is_main

FILE = "run.json.lock"
BEAT = 10.0
"""Seconds between heartbeats."""

STALE = 120.0
"""Seconds without a heartbeat after which a holder on another host counts as dead."""

SETTLE = 2.0
"""Seconds after which a claim is looked at again where there is no `flock`."""

LENGTH = 511
"""Bytes of a lock file but for its last newline."""


class LockedError(UserError):
    """The folder belongs to another process."""


class Lock:
    """Holds the folder of a run while it is entered, in process 0; the others are refused together with it.

    Args:
      folder: the run folder, also `gs://`; made if it is not there, and removed again if it stays empty.
      note: called with one line when a dead process's lock is taken over.

    Raises:
      LockedError: another process trains there; in one line.
      UserError: the folder cannot be written.
    """

    def __init__(self, folder: epath.PathLike, note: Callable[[str], None] = print):
        self._folder, self._file, self._note = epath.Path(folder), epath.Path(folder) / FILE, note
        self._mine = {"host": host(), "pid": os.getpid(), "place": place(), "born": born(os.getpid()),
                      "started": time.time(), "token": secrets.token_hex(8)}  # fmt: skip
        self._made = False
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lock of the run folder", daemon=True)

    def __enter__(self) -> Lock:
        refused: UserError | None = None
        if is_main():
            try:
                self._take()
            except UserError as error:
                refused = error
        if agreed(refused is not None):
            raise refused or LockedError(f"{self._folder}: process 0 was refused there")
        if is_main():
            self._beats.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if not self._beats.is_alive():
            return
        self._beats.join()
        with contextlib.suppress(OSError), _alone(self._file):
            if self._read().get("token") in (None, self._mine["token"]):
                self._file.unlink()
                if self._made and not _is_remote(self._file):
                    os.rmdir(self._folder)

    def confirm(self) -> None:
        """To be called before something is written. Raises LockedError if another process has taken the folder over."""
        if is_main() and (holder := self._say()):
            raise LockedError(f"{self._folder}: was taken over by {_who(holder)} while this process did not answer; "
                         "nothing more is written")  # fmt: skip

    def _take(self) -> None:
        try:
            self._made = not self._folder.exists()
            sure = self._claim()
            if not sure:
                time.sleep(SETTLE)
                if holder := self._say():
                    raise LockedError(_refusal(self._folder, holder))
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written: {error.strerror or error}") from error

    def _claim(self) -> bool:
        """Writes this process's name if the folder is free; whether no other one can have done so at the same time."""
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError), _alone(self._file) as sure:  # one that gave up removed it
                holder = self._read()
                if alive(holder):
                    raise LockedError(_refusal(self._folder, holder))
                if holder:
                    self._note(f"{self._folder}: {_who(holder)} trained here and is gone; its lock is taken over")
                self._write()
                return sure

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):
                self._say()

    def _say(self) -> dict[str, Any]:
        """Writes a heartbeat, unless the folder is another's: that one's name then."""
        with _alone(self._file):
            holder = self._read()
            if holder.get("token") in (None, self._mine["token"]):
                self._write()
                return {}
            return holder

    def _read(self) -> dict[str, Any]:
        """What the lock holds; nothing, if it is not there or its process was killed before it wrote."""
        try:
            found = json.loads(self._file.read_text()) if self._file.exists() else {}
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _write(self) -> None:
        """In place and in one piece of one length: never half of it is read."""
        text = json.dumps({**self._mine, "beat": time.time()}).ljust(LENGTH) + "\n"
        if _is_remote(self._file):
            self._file.write_text(text)
        else:
            with open(self._file, "r+b", buffering=0) as stream:
                stream.write(text.encode())


def alive(holder: dict[str, Any]) -> bool:
    """Whether the process that wrote a lock is still there, as far as can be seen from here; there is none that wrote
    nothing."""
    if holder.get("place") == place():
        return bool(holder.get("born")) and born(int(holder["pid"])) == holder["born"]
    return time.time() - float(holder.get("beat", 0)) < STALE


@contextlib.contextmanager
def _alone(file: epath.Path) -> Iterator[bool]:
    """One process at a time, with a file that is there; yields whether that is sure."""
    if _is_remote(file):
        yield False
        return
    import fcntl

    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            sure = True
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:  # a file system without it
                sure = False
            if os.path.exists(file) and os.path.samestat(os.fstat(handle), os.stat(file)):
                yield sure
                return
        finally:
            os.close(handle)


def _is_remote(file: epath.Path) -> bool:
    return "://" in str(file)


def _refusal(folder: Any, holder: dict[str, Any]) -> str:
    where = f"{folder}: {_who(holder)} is training here"
    if holder.get("place") == place():
        return f"{where}; wait for it, or give another folder"
    age = max(0.0, time.time() - float(holder.get("beat", 0)))
    return (f"{where}, last heard of {age:.0f} s ago; wait for it, or give another folder (it counts as gone when "
            f"nothing is heard of it for {STALE:.0f} s)")  # fmt: skip


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return "a process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(holder.get("started", 0))))
    return f"process {holder.get('pid')} on {holder.get('host')}, started {since},"

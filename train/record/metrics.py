"""Metrics of a run: one JSON object a line in `metrics.jsonl`, and the same in TensorBoard event files.

    {"step": 20, "train/loss": 3.4375, "train/tokens_per_s": 51200.0}

Numbers read back bit for bit: a float32 is written as the shortest decimal of the float64 that equals it. What is not
finite is written NaN, Infinity, -Infinity, as Python's `json` reads them. A resumed run cuts off the lines after its
checkpoint, so that its file is that of a run that was never interrupted. The lines are on the disk before a checkpoint
is sealed, which has their count: what is lost afterwards is reported. TensorBoard holds float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from train.record import (
    literal_paths,  # noqa: F401  (epath takes folders for patterns)
    metric_lines,
)

FILE = "metrics.jsonl"
EVENTS = "tensorboard"


class Metrics:
    """Writes the metrics of one run into a folder; use it as a context or `close` it.

    Args:
      folder: the run's folder, made if need be; `gs://` works where `etils.epath` does.
      resume: the step of the checkpoint that the run goes on from, whose lines and those before stay. None: a new run,
        and what the file held is dropped.
      mark: the `mark` of when that checkpoint was saved; None: it is not known.
      tensorboard: whether to write event files, into `folder/tensorboard`.
      note: called with one line if the file is not what was written.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        resume: int | None = None,
        mark: Mapping[str, int] | None = None,
        tensorboard: bool = True,
        note: Callable[[str], None] = print,
    ):
        self._folder, self._note = epath.Path(folder), note
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / FILE
        # Object stores cannot append, so there the file is kept in memory and written anew at every flush.
        self._remote = _is_remote(self._path)
        self._file = self._opened()
        end = 0 if resume is None else metric_lines.kept(self._file, resume)
        if resume is not None and mark is not None:
            self._check(resume, mark, end)
        self._file.truncate(end)
        self._count = metric_lines.counted(self._file)
        self._file.seek(end)
        if end and not _ends_a_line(self._file):
            self._append(b"\n")
        self._sync()
        self._events = _events(self._folder / EVENTS, resume) if tensorboard else None

    @property
    def mark(self) -> dict[str, int]:
        """What has been written so far, by which a checkpoint knows whether the file is still that."""
        return dataclasses.asdict(self._count)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line. Values are scalars, or [R] for an ensemble of R replicas, numpy's or JAX's or Python's."""
        record = {name: _plain(value, name) for name, value in values.items()}
        # A whole line at once, so that a killed process leaves at most one torn line, the last.
        self._append(json.dumps({"step": int(step), **record}).encode() + b"\n")
        if self._events is not None:
            self._events.write_event(Event(step=int(step), wall_time=time.time(), summary=_summary(record)))

    def flush(self) -> None:
        """Brings everything written so far to the disk or the store."""
        self._sync()
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        if not self._file.closed:
            try:
                self._sync()
            finally:
                self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _opened(self) -> BinaryIO:
        if self._remote:
            return io.BytesIO(self._path.read_bytes() if self._path.exists() else b"")
        # Unbuffered: what a full disk refuses is not tried again, behind what comes later, when the file is closed.
        return open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)

    def _check(self, step: int, mark: Mapping[str, int], end: int) -> None:
        """Says in one line where the file is not that of the checkpoint."""
        then = metric_lines.Count(**mark)
        now = metric_lines.counted(self._file, then.size)
        if now == then and end >= then.size:
            return
        lines = metric_lines.counted(self._file, end).lines
        there = f"holds {lines:,} of the" if lines < then.lines else "has changed, it does not hold the"
        self._note(f"{self._path}: {there} {then.lines:,} lines that were written up to step {step:,}; what is missing "
                   "is lost, the training itself is not touched by it")  # fmt: skip

    def _append(self, content: bytes) -> None:
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._count.size)  # the whole line or nothing of it
            raise
        self._count.add(content)

    def _sync(self) -> None:
        """To the disk or the store, under its name, whatever has been done to the file since."""
        if self._remote:
            _replace(self._path, self._file)
            return
        os.fsync(self._file.fileno())
        there = os.fstat(self._file.fileno())
        if not self._path.exists() or not os.path.samestat(there, os.stat(self._path)):
            self._note(f"{self._path}: was removed or replaced while the run wrote to it; what it wrote is written "
                       "again")  # fmt: skip
            _replace(self._path, self._file)
            self._file.close()
            self._file = self._opened()
        elif there.st_size != self._count.size:
            self._note(f"{self._path}: was changed by another program: it holds {there.st_size:,} bytes where "
                       f"{self._count.size:,} were written")  # fmt: skip
            self._count = metric_lines.counted(self._file)
        self._file.seek(0, os.SEEK_END)


def read(folder: epath.PathLike, note: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` in a run's folder, as they were written; `note` gets those that are none."""
    path = epath.Path(folder) / FILE
    return metric_lines.read(path, note) if path.exists() else []


def of_step(folder: epath.PathLike, step: int) -> list[dict[str, Any]]:
    """The lines of one step, the last written first."""
    path = epath.Path(folder) / FILE
    if not path.exists():
        return []
    with path.open("rb") as stream:
        return list(metric_lines.of_step(stream, step))


def _ends_a_line(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _replace(path: epath.Path, content: BinaryIO) -> None:
    """Writes the file in one go: a process killed here leaves the old file or the new."""
    new = path.with_name(path.name + ".new")
    content.seek(0)
    with new.open("wb") as stream:
        shutil.copyfileobj(content, stream)
    new.replace(path)


def _is_remote(path: epath.Path) -> bool:
    return "://" in str(path)


def _plain(value: Any, name: str) -> Any:
    """A Python number, or a list of them, equal to `value`."""
    array = np.asarray(value)
    if array.ndim > 1 or array.dtype.kind in "OSUcMm":
        kind = f"{array.dtype}{list(array.shape)}"
        raise TypeError(f"metric {name!r} is {kind}; it should be a number or one per replica")
    if array.dtype.kind == "b":
        return array.astype(int).tolist()
    return array.tolist() if array.dtype.kind in "iu" else array.astype(np.float64).tolist()


def _summary(record: Mapping[str, Any]) -> Summary:
    values = []
    for name, value in record.items():
        named = {f"{name}/{i}": one for i, one in enumerate(value)} if isinstance(value, list) else {name: value}
        values += [Summary.Value(tag=tag, simple_value=_float32(number)) for tag, number in named.items()]
    return Summary(value=values)


def _float32(number: float) -> float:
    """As TensorBoard keeps it; a number too large becomes an infinity, which protobuf would refuse to do."""
    limit = float(np.finfo(np.float32).max)
    return math.copysign(math.inf, number) if abs(number) > limit else float(number)


def _events(folder: epath.Path, resume: int | None) -> EventsWriter:
    """A new event file. Numbered, because its name else differs from the last one's only by the second."""
    folder.mkdir(parents=True, exist_ok=True)
    old = sorted(folder.glob("events.out.tfevents.*"))
    if resume is None:
        for path in old:
            path.unlink()
        old = []
    writer = EventsWriter(str(folder / "events"), f".{len(old):06d}")
    if resume is not None:
        # Readers drop what earlier files have from this step on.
        log = SessionLog(status=SessionLog.SessionStatus.Value("START"))
        writer.write_event(Event(step=resume + 1, wall_time=time.time(), session_log=log))
    return writer

"""Metrics of a run: one JSON object a line in `metrics.jsonl`, and the same in TensorBoard event files.

    {"step": 20, "train/loss": 3.4375, "train/tokens_per_s": 51200.0}

Numbers read back bit for bit: a float32 is written as the shortest decimal of the float64 that equals it. What is not
finite is written NaN, Infinity, -Infinity, as Python's `json` reads them. A resumed run cuts off the lines after its
checkpoint, so that its file is that of a run that was never interrupted. TensorBoard holds float32.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from arch.spec import UserError
from train import literal_paths  # noqa: F401  (epath takes folders for patterns)

FILE = "metrics.jsonl"
EVENTS = "tensorboard"


class Metrics:
    """Writes the metrics of one run into a folder; use it as a context or `close` it.

    Args:
      folder: the run's folder, made if need be; `gs://` works where `etils.epath` does.
      resume: the step of the checkpoint that the run goes on from, whose lines and those before stay. None: a new run,
        and what the file held is dropped.
      tensorboard: whether to write event files, into `folder/tensorboard`.
    """

    def __init__(self, folder: epath.PathLike, *, resume: int | None = None, tensorboard: bool = True):
        self._folder = epath.Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / FILE
        kept = [] if resume is None else [line for line in _lines(self._path) if json.loads(line)["step"] <= resume]
        _replace(self._path, kept)
        # Object stores cannot append, so there the file is written anew at every flush.
        self._file = None if _is_remote(self._path) else self._path.open("a")
        self._lines = kept
        self._events = _events(self._folder / EVENTS, resume) if tensorboard else None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line. Values are scalars, or [R] for an ensemble of R replicas, numpy's or JAX's or Python's."""
        record = {name: _plain(value, name) for name, value in values.items()}
        line = json.dumps({"step": int(step), **record})
        if self._file is None:
            self._lines.append(line)
        else:
            # A whole line at once, so that a killed process leaves at most one torn line, the last.
            self._file.write(line + "\n")
            self._file.flush()
        if self._events is not None:
            self._events.write_event(Event(step=int(step), wall_time=time.time(), summary=_summary(record)))

    def flush(self) -> None:
        """Brings everything written so far to the disk or the store."""
        if self._file is None:
            _replace(self._path, self._lines)
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read(folder: epath.PathLike) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` in a run's folder, as they were written; a torn last line is left out."""
    return [json.loads(line) for line in _lines(epath.Path(folder) / FILE)]


def _lines(path: epath.Path) -> list[str]:
    """The whole lines of the file. Raises `UserError` for one that is no metric, unless it is the last and torn."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            whole = isinstance(json.loads(line)["step"], int)
        except (json.JSONDecodeError, TypeError, KeyError):
            whole = False
        if not whole:
            if number == len(lines):
                return lines[:-1]
            raise UserError(f"{path}:{number}: no metrics line; it should be a JSON object with a whole number `step`")
    return lines


def _replace(path: epath.Path, lines: list[str]) -> None:
    """Writes the file in one go: a process killed here leaves the old file or the new."""
    new = path.with_name(path.name + ".new")
    new.write_text("".join(line + "\n" for line in lines))
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

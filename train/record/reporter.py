"""Logging of a run: metrics into its folder, progress on the screen. Process 0 does, the others do nothing.

Names in the metrics:

    train/NAME             the objective's metrics of one step's batch, grad_norm and learning_rate
    train/tokens_per_s     over the steps since the line before, without evaluations and checkpoints
    train/mfu              the part of the devices' peak that the model's FLOPs make up
    val/NAME, test/NAME    the objective's metrics of the validation split and, at the end, of the test split
    SET/NAME               those of a further set to evaluate on
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from arch.cost import UncountedError
from arch.spec import UserError
from train.forward import Batch
from train.record.metrics import Metrics, of_step
from train.record.progress import Progress
from train.runtime import hardware as chips
from train.runtime.distributed import is_main
from train.setup import DTYPES, CompiledRun

TIMES = ("train/tokens_per_s", "train/rows_per_s", "train/mfu")
"""Metrics that measure the machine; all others are the same whenever and however often a run is interrupted."""

SCREEN_SECONDS = 0.5
INTERNAL = ("finite", "weight")


class Reporter:
    """Reports on a run from step `start` on; use it as a context.

    `written` is the `mark` of the metrics that the checkpoint of `start` has; None: it has none.
    """

    def __init__(
        self, program: CompiledRun, folder: epath.PathLike, start: int, written: Mapping[str, int] | None = None
    ):
        self._program, self._folder, self._start = program, epath.Path(folder), start
        self._reports, self._steps = program.run.logging, program.run.steps
        self._stack = contextlib.ExitStack()
        self._written = written
        self._metrics: Metrics | None = None
        self._flops: int | None = None
        self._mark: float | None = None
        self._seconds, self._counted, self._shown = 0.0, 0, 0.0
        self._rate: float | None = None

    def __enter__(self) -> Reporter:
        self._progress = Progress(self._steps, start=self._start, enabled=is_main())
        if is_main():
            with self._writing():
                start = self._start or None
                self._metrics = Metrics(self._folder, resume=start, mark=self._written, note=self.note)
        self._stack.enter_context(self._progress)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        if self._metrics is not None:
            with self._writing() if error[0] is None else contextlib.suppress(OSError):
                self._close(self._metrics)

    @staticmethod
    def _close(metrics: Metrics) -> None:
        try:
            metrics.close()
        except OSError:
            metrics.close()  # the file is closed although it could not be flushed; this closes the rest
            raise

    def note(self, line: str) -> None:
        """A line of its own."""
        self._progress.note(line)

    def step(self, step: int, metrics: Mapping[str, jax.Array], batch: Batch) -> None:
        """Called once a step, as soon as its `metrics` are there."""
        if self._metrics is None:
            return
        now = time.perf_counter()
        if self._mark is None:
            self._flops = self._step_flops(batch)
            now = time.perf_counter()
        else:
            self._seconds, self._counted = self._seconds + now - self._mark, self._counted + 1
        self._mark = now
        due = step == self._steps or bool(self._reports.log and step % self._reports.log == 0)
        if not due and now - self._shown < SCREEN_SECONDS:
            return
        self._shown = now
        values = {name: value for name, value in jax.device_get(dict(metrics)).items() if name not in INTERNAL}
        times = self._times()
        if due:
            with self._writing():
                self._metrics.write(step, {f"train/{name}": value for name, value in {**values, **times}.items()})
            self._seconds, self._counted = 0.0, 0
        loss = _middle(values.get("loss", next(iter(values.values()))))
        self._progress.update(step, loss=loss, tokens_per_second=times.get("tokens_per_s"), mfu=times.get("mfu"))

    def _step_flops(self, batch: Batch) -> int | None:
        """Model FLOPs of a step; None, and a line that says why, where they cannot be counted."""
        try:
            return self._program.step_flops(batch)
        except UncountedError as error:
            self.note(f"train/mfu is left out: {error}")
            return None

    def failed(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Writes the metrics of a step that was not finite, whether it was due or not."""
        if self._metrics is not None:
            values = jax.device_get(dict(metrics))
            with self._writing():
                self._metrics.write(step, {f"train/{name}": v for name, v in values.items() if name not in INTERNAL})

    def evaluation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes and shows the metrics of an evaluation after `step`, named PREFIX/NAME."""
        if self._metrics is not None:
            with self._writing():
                self._metrics.write(step, metrics)
            for split, values in by_split(metrics).items():
                shown = "  ".join(f"{name} {shown_value(value)}" for name, value in values.items())
                self.note(f"step {step:,}/{self._steps:,}  {split} {shown}")

    def evaluated(self, step: int) -> dict[str, Any]:
        """What an earlier process wrote of the evaluation after `step`; empty if nothing, or not in process 0."""
        for line in reversed(of_step(self._folder, step)) if self._metrics is not None else ():
            found = {name: value for name, value in line.items() if "/" in name and not name.startswith("train/")}
            if found:
                return found
        return {}

    def flush(self) -> None:
        """Brings all metrics to the disk or the store."""
        if self._metrics is not None:
            with self._writing():
                self._metrics.flush()

    @property
    def mark(self) -> dict[str, int] | None:
        """What the metrics are so far, for a checkpoint; None where another process writes them."""
        return None if self._metrics is None else self._metrics.mark

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Keeps the time spent inside out of the speed."""
        before = time.perf_counter()
        yield
        if self._mark is not None:
            self._mark += time.perf_counter() - before

    def _times(self) -> dict[str, float]:
        if not self._counted:
            return {}
        per_second = self._counted / max(self._seconds, 1e-9)
        unit, count = self._program.counted
        times = {f"{unit}_per_s": per_second * count}
        if self._flops is not None:
            devices = list(self._program.mesh.devices.flat)
            mfu = chips.mfu(self._flops * per_second, devices, DTYPES[self._program.run.precision])
            times |= {} if mfu is None else {"mfu": mfu}
        return times

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._folder}: cannot write metrics: {error.strerror or error}; what was written before "
                            "is kept, run the same command again when this is mended") from error  # fmt: skip


def by_split(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Split in words -> name -> value of metrics named PREFIX/NAME."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        split, _, rest = name.partition("/")
        found.setdefault("validation" if split == "val" else split, {})[rest] = value
    return found


def shown_value(value: Any) -> str:
    """A metric as text: four decimals, or the range over the replicas."""
    if not isinstance(value, list):
        return f"{value:.4f}"
    return f"{min(value):.4f}..{max(value):.4f}"


def _middle(value: np.ndarray) -> float:
    """The value, or the median over the replicas that are finite."""
    finite = np.asarray(value)[np.isfinite(value)]
    return float(np.median(finite)) if finite.size else float("nan")

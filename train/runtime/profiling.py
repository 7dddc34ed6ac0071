"""A window of steps recorded with `jax.profiler`, to be opened in Perfetto, XProf or TensorBoard."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from etils import epath

from arch.spec import UserError

FOLDER = "profile"


@dataclasses.dataclass(frozen=True)
class Window:
    """Steps `start` to `start + steps - 1`, counted from 1. The first step of a process compiles, so leave it out."""

    start: int
    steps: int = 5

    def __post_init__(self) -> None:
        if self.start < 1 or self.steps < 1:
            raise UserError(f"a profile of {self.steps} steps from step {self.start}: both must be at least 1")


class Profile:
    """Starts and stops the recording of `window` into `folder/profile`; does nothing without one."""

    def __init__(self, window: Window | None, folder: epath.PathLike):
        self._window = window
        self._folder = str(epath.Path(folder) / FOLDER)
        self._recording = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """To be called before `step` is dispatched."""
        if self._window is not None and step == self._window.start:
            jax.profiler.start_trace(self._folder)
            self._recording = True

    def after(self, step: int, state: Any) -> None:
        """To be called when `step`, which gives `state`, has been dispatched."""
        if self._recording and self._window is not None and step == self._window.start + self._window.steps - 1:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        if self._recording:
            self._recording = False
            jax.profiler.stop_trace()

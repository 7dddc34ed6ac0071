"""Stopping on signals: SIGTERM, SIGINT (Ctrl-C) and, on a pod, the preemption notice that all processes share."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Stopped(SystemExit):
    """The run has stopped on a signal and saved its state. `code` is 128 + the signal, as shells have it."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.signal = number


class StopSignals:
    """While it is entered, SIGTERM and SIGINT set a flag instead of ending the process; a second SIGINT ends it.

    With several processes JAX's preemption service takes SIGTERM, and makes all of them stop after the same step;
    SIGINT is passed on to it. Outside the main thread nothing is caught, for Python delivers no signals there.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            caught = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGTERM, signal.SIGINT)
            for number in caught:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._number = number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def noted(self) -> bool:
        """Whether this process alone got the signal, and may act on it without the others."""
        return self._number is not None and jax.process_count() == 1

    def after(self, step: int) -> int | None:
        """The signal to stop for after `step`, the same in every process; None: go on."""
        if jax.process_count() == 1:
            return self._number
        if multihost_utils.reached_preemption_sync_point(step):
            return self._number or signal.SIGTERM
        return None

"""Threads of a save that has failed, ended: without this they wait ten minutes for what will not come, and the program
with them.

Orbax makes a checkpoint's folder in a thread, and has others wait for a signal from it; if the folder cannot be made,
no signal is sent. There is no public way to end them (orbax-checkpoint 0.12).
"""

from __future__ import annotations

import gc
import inspect
import threading
import types
from typing import Any

import jax
from orbax.checkpoint._src.futures import future


def end() -> None:
    """Of this process alone: other processes of a run wait for the same signals, and are ended as a whole."""
    if jax.process_count() > 1:
        return
    for thread in threading.enumerate():
        if isinstance(thread, future._SignalingThread):
            waiting: Any = thread
            waiting.cancel()
            future.set_signals(waiting._receive_signals, operation_id=waiting._operation_id)
    for work in gc.get_objects():  # what they had to do; Python would report each as never awaited, after our own line
        mine = type(work) is types.CoroutineType  # not isinstance: what is asked for its class may warn, as torch's do
        if mine and inspect.getcoroutinestate(work) == inspect.CORO_CREATED and _of_orbax(work):
            work.close()


def _of_orbax(work: Any) -> bool:
    return work.cr_code.co_filename.replace("\\", "/").rpartition("/orbax/")[1] != ""

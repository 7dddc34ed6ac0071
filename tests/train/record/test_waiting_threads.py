"""Threads of a save that failed come to their end: they would wait ten minutes, and the program with them."""

import threading

import pytest
from orbax.checkpoint._src.futures import future, synchronization

from train.record import waiting_threads
from train.record.checkpoint import Checkpoints


def test_a_failed_save_leaves_no_thread(tmp_path, monkeypatch):
    waiting = future._SignalingThread(
        target=lambda: pytest.fail("it was to be cancelled"),
        send_signals=[],
        receive_signals=[synchronization.HandlerAwaitableSignal.STEP_DIRECTORY_CREATION],
        timeout_secs=60,
        operation_id="none",
        daemon=True,
    )
    waiting.start()
    with Checkpoints(tmp_path, keep=2) as checkpoints, monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.CheckpointManager.wait_until_finished", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoints.wait()
    threading.Thread.join(waiting, 5)
    assert not waiting.is_alive()


def test_objects_of_others_are_not_touched():
    """torch keeps a deprecated one that warns, here an error, of any look at its class."""

    class Proxy:
        @property
        def __class__(self):
            raise FutureWarning("deprecated")

    proxy = Proxy()
    waiting_threads.end()
    assert type(proxy) is Proxy

"""Saves two checkpoints, and is killed in the middle of the third.

python -m tests.train.child_checkpoint FOLDER WHEN     WHEN: "arrays", while they are written, or "commit", when all is
written and the renaming that makes a checkpoint of it is all that is left.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax.numpy as jnp

from train.record.checkpoint import Checkpoints


def state(step: int) -> dict:
    return {"step": jnp.int32(step), "params": {"w": jnp.full((64, 64), step * 1.0)}, "opt_state": (jnp.int32(step),)}


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_when_bytes_arrive(folder: Path) -> None:
    """Kills the process as soon as data are in the temporary folder of checkpoint 3."""
    while True:
        files = [path for part in folder.glob("checkpoints/3*") for path in part.rglob("d/*") if path.is_file()]
        if any(path.stat().st_size for path in files):
            die()
        time.sleep(0.0002)


def main(folder: str, when: str) -> None:
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {"next_batch": step})
    # Taken over before the third: the checkpoint can never be completed.
    Checkpoints._seal = die if when == "commit" else lambda self: time.sleep(60)
    checkpoints = Checkpoints(folder, keep=3)
    if when == "arrays":
        threading.Thread(target=die_when_bytes_arrive, args=(Path(folder),), daemon=True).start()
    large = state(3) | {"params": {"w": jnp.arange(2.0**24)}}
    checkpoints.save(3, large, {"next_batch": 3})
    checkpoints.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

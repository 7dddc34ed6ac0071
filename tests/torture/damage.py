"""Files of checkpoints and metrics that are changed or cut short."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from tests.torture.kills import Result
from tests.train.child_checkpoint import state
from train.record.checkpoint import Checkpoints
from train.record.metrics import Metrics, read

FLIPS, CUTS = 70, 20


def damaged(folder: Path, count: int, spoil: Callable[[bytes, random.Random], bytes], dice: random.Random) -> Result:
    """One file of the newest of three checkpoints at a time: what is restored is that of its step, or an older one."""

    def big(step: int) -> dict:
        return state(step) | {"params": {"w": jax.random.normal(jax.random.key(step), (128, 128))}}

    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, big(step), {"next_batch": step})
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), big(0))
    newest, good = folder / "checkpoints" / "3", 0
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.stat().st_size]
    for _ in range(count):
        path = dice.choice(files)
        content = path.read_bytes()
        path.write_bytes(spoil(content, dice))
        notes: list[str] = []
        with Checkpoints(folder, keep=3, note=notes.append) as checkpoints:
            found = checkpoints.restore(abstract)
        assert found is not None
        kept = jax.tree.all(jax.tree.map(np.array_equal, found.state, big(found.step)))
        told = len(notes) == (found.step != 3) and not any("\n" in note for note in notes)
        good += bool(kept and told and found.data == {"next_batch": found.step})
        if (folder / "damaged" / "3").exists():
            (folder / "damaged" / "3").rename(newest)
        path.write_bytes(content)
    return count, good


def flipped(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    changed[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def spoilt_metrics(folder: Path, dice: random.Random) -> Result:
    """A byte changed or the end cut off: told in one line, and everything else is read."""
    with Metrics(folder, tensorboard=False) as metrics:
        for step in range(1, 51):
            metrics.write(step, {"train/loss": 1 / step})
    path, good = folder / "metrics.jsonl", 0
    whole = path.read_bytes()
    for number in range(20):
        path.write_bytes((flipped if number % 2 else cut)(whole, dice))
        notes: list[str] = []
        with Metrics(folder, resume=50, mark=metrics.mark, tensorboard=False, note=notes.append):
            good += len(notes) == 1 and len(read(folder, lambda line: None)) <= 50
    return 20, good

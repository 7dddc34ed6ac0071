"""What the tests of checkpoints share: reading them back, and knowing one by its step."""

from pathlib import Path

import jax
import numpy as np

from tests.train.child_checkpoint import state
from train.record.checkpoint import Checkpoints

ABSTRACT = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))


def restore(folder: Path, abstract=ABSTRACT):
    notes: list[str] = []
    with Checkpoints(folder, keep=3, note=notes.append) as checkpoints:
        return checkpoints.restore(abstract), notes


def is_step(found, step: int) -> bool:
    assert found.step == step
    assert found.data == {"next_batch": step}
    jax.tree.map(np.testing.assert_array_equal, found.state, state(step))
    return True


def files(folder: Path, step: int) -> list[Path]:
    ignored = ("commit_success.txt", "_CHECKPOINT_METADATA")
    return [p for p in sorted((folder / "checkpoints" / str(step)).rglob("*")) if p.is_file() and p.name not in ignored]

"""Checkpoints: what is saved comes back, also after a kill."""

import json
import signal

import jax
import jax.numpy as jnp
import pytest

from arch.spec import UserError
from tests.train import children
from tests.train.child_checkpoint import state
from tests.train.record.saved import ABSTRACT, files, is_step, restore
from train.record.checkpoint import Checkpoints


def test_the_newest_comes_back(saved):
    found, notes = restore(saved)
    assert is_step(found, 3)
    assert notes == []


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert restore(tmp_path) == (None, [])


def test_only_as_many_as_asked_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {})
        assert checkpoints.newest == 3
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "3"}


def test_a_save_holds_the_state_of_its_call_although_its_buffers_are_donated(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    now = state(1)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, now, {"next_batch": 1})
        for _ in range(20):
            now = step(now)
    assert is_step(restore(tmp_path)[0], 1)


def test_a_state_of_another_shape_is_not_taken_for_damage(saved):
    other = ABSTRACT | {"params": {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32)}}
    with pytest.raises(UserError, match=r"another version .*params\.w: float32\[64, 64\] -> float32\[8, 8\]"):
        restore(saved, other)
    assert is_step(restore(saved)[0], 3)


@pytest.mark.parametrize("when", ["arrays", "commit"])
def test_killed_in_the_middle_of_a_save(tmp_path, when):
    done = children.finish(children.start("tests.train.child_checkpoint", tmp_path, when))
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert any(path.name.startswith("3.") for path in (tmp_path / "checkpoints").iterdir()), "it was under way"
    found, notes = restore(tmp_path)
    assert is_step(found, 2)
    assert notes == []
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        checkpoints.save(3, state(3), {"next_batch": 3})
    assert is_step(restore(tmp_path)[0], 3)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"1", "2", "3"}, "the rest is cleared away"


def test_checkpoints_that_were_sealed_by_sizes_alone_still_open(saved):
    seal = saved / "checkpoints" / "3" / "files.json"
    seal.write_text(json.dumps({name: size for name, (size, *_) in json.loads(seal.read_text()).items()}))
    assert is_step(restore(saved)[0], 3)
    files(saved, 3)[-1].write_bytes(b"")
    assert is_step(restore(saved)[0], 2)

"""Checkpoints: what is saved comes back, and what is damaged does not."""

import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.spec import UserError
from tests.train import children
from tests.train.child_checkpoint import state
from train.checkpoint import Checkpoints, digest

ABSTRACT = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))


@pytest.fixture
def saved(tmp_path) -> Path:
    """A folder with the checkpoints of steps 1, 2 and 3."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"next_batch": step})
    return tmp_path


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


@pytest.mark.parametrize("how", ["missing", "empty", "half"])
def test_any_file_that_is_lost_or_cut_makes_the_one_before_be_used(saved, how):
    """Every file of checkpoint 3 in turn; 2 must come back, with one line that says so, and 3 is set aside."""
    for path in files(saved, 3):
        whole = path.read_bytes()
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes(whole[: len(whole) // 2] if how == "half" else b"")
        found, notes = restore(saved)
        assert is_step(found, 2)
        assert len(notes) == 1
        assert notes[0].startswith(f"checkpoint 3 in {saved}/checkpoints is damaged (")
        assert notes[0].endswith("going on from 2 instead")
        (saved / "damaged" / "3").rename(saved / "checkpoints" / "3")
        path.write_bytes(whole)
    assert is_step(restore(saved)[0], 3)


def test_arrays_that_changed_on_the_disk_are_found(saved):
    """Orbax itself does not look: the sizes fit, and its files of arrays carry no sums."""
    largest = max(files(saved, 3), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    found, notes = restore(saved)
    assert is_step(found, 2)
    assert len(notes) == 1


def test_two_damaged_ones_in_a_row(saved):
    for step in (2, 3):
        files(saved, step)[0].unlink()
    found, notes = restore(saved)
    assert is_step(found, 1)
    assert [note.split()[1] for note in notes] == ["3", "2"]


def test_the_damaged_step_can_be_saved_again(saved):
    files(saved, 3)[0].unlink()
    with Checkpoints(saved, keep=3, note=lambda line: None) as checkpoints:
        checkpoints.restore(ABSTRACT)
        checkpoints.save(3, state(3), {"next_batch": 3})
    assert is_step(restore(saved)[0], 3)


def test_all_damaged_is_an_error_that_touches_nothing(saved):
    for step in (1, 2, 3):
        files(saved, step)[0].unlink()
    with pytest.raises(UserError, match="none of the checkpoints 3, 2, 1 can be read"):
        restore(saved)
    assert {path.name for path in (saved / "checkpoints").iterdir()} == {"1", "2", "3"}


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


def test_no_space_left_is_one_line(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, state(1), {"next_batch": 1})
        checkpoints.wait()

        def full(self):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(type(checkpoints._manager), "wait_until_finished", full)
        with pytest.raises(UserError, match="no space left for a checkpoint; earlier ones are kept"):
            checkpoints.wait()
        monkeypatch.undo()
    assert is_step(restore(tmp_path)[0], 1)


def test_a_save_without_room_is_not_begun(saved, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with Checkpoints(saved, keep=3) as checkpoints:
        with pytest.raises(UserError, match=r"takes 0\.0 MB where 0\.0 MB are free; earlier ones are kept, make room"):
            checkpoints.save(4, state(4), {})
        assert checkpoints.newest == 3


def test_the_digest_sees_each_bit():
    first = state(1)
    second = state(1) | {"params": {"w": first["params"]["w"].at[5, 5].set(np.nextafter(np.float32(1), np.float32(2)))}}
    assert digest(first) == digest(state(1)) != digest(second)

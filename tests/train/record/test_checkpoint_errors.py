"""Errors while a checkpoint is written or read: one line, and nothing is moved."""

from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from arch.spec import UserError
from tests.train.child_checkpoint import state
from tests.train.record.saved import is_step, restore
from train.record.checkpoint import Checkpoints


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


REFUSALS = {
    "TensorStore, read-only": (
        ValueError("PERMISSION_DENIED: Error writing local file \"x\": Failed to open: \"x.__lock\": Read-only file "
                   "system [os_error_code='30'] [tensorstore_spec='{...}']"),
        "cannot write a checkpoint: Read-only file system; earlier ones are kept, mend that and run the same command",
    ),
    "TensorStore, full": (
        ValueError("RESOURCE_EXHAUSTED: Error writing [os_error_code='28']"), "no space left for a checkpoint; earlier"
    ),
    "a store": (ValueError("UNAVAILABLE: no route"), "cannot write a checkpoint: UNAVAILABLE: no route; earlier"),
    "permission": (PermissionError(13, "Permission denied"), "cannot write a checkpoint: Permission denied; earlier"),
    "gone": (FileNotFoundError(2, "No such file or directory"), "cannot write a checkpoint: No such file or directory"),
    "quota": (OSError(122, "Disk quota exceeded"), "cannot write a checkpoint: Disk quota exceeded; earlier"),
    "stale": (OSError("what no errno tells"), "cannot write a checkpoint: what no errno tells; earlier"),
}  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("where", ["wait", "save", "before", "room"])
@pytest.mark.parametrize(("error", "line"), REFUSALS.values(), ids=REFUSALS)
def test_what_refuses_in_the_middle_of_a_save_is_one_line(tmp_path, monkeypatch, error, line, where, wrapped):
    def fail(*args, **kwargs):
        if wrapped:  # as Orbax does
            raise RuntimeError("Failed to save") from error
        raise error

    with Checkpoints(tmp_path, keep=2, before=lambda: [f() for f in before]) as checkpoints:
        before = [fail] if where == "before" else []
        with monkeypatch.context() as patch:
            if where == "room":
                patch.setattr("shutil.disk_usage", fail)
            elif where != "before":
                method = {"wait": "wait_until_finished", "save": "save"}[where]
                patch.setattr(f"orbax.checkpoint.CheckpointManager.{method}", fail)
            with pytest.raises(UserError) as caught:
                checkpoints.save(1, state(1), {})
    assert str(caught.value).startswith(f"{tmp_path}/checkpoints: {line}")
    assert "\n" not in str(caught.value)
    assert "tensorstore_spec" not in str(caught.value)


def test_a_save_without_room_is_not_begun(saved, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with Checkpoints(saved, keep=3) as checkpoints:
        with pytest.raises(UserError, match=r"takes 0\.0 MB where 0\.0 MB are free; earlier ones are kept, make room"):
            checkpoints.save(4, state(4), {})
        assert checkpoints.newest == 3


def all_are_there(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} == {"checkpoints"} and {
        path.name for path in (folder / "checkpoints").iterdir()
    } == {"1", "2", "3"}


NO_DAMAGE = {
    "no memory on a device": (
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 16384 bytes."),
        r"checkpoints/3: there is no memory to read it \(RESOURCE_EXHAUSTED.*\); it is kept",
    ),
    "no memory": (MemoryError(), r"checkpoints/3: there is no memory to read it \(MemoryError\)"),
    "no permission": (PermissionError(13, "Permission denied"), r"checkpoints/3: cannot be read \(Permission denied\)"),
    "no permission, as TensorStore says it": (
        ValueError("PERMISSION_DENIED: Error opening file"),
        r"checkpoints/3: cannot be read \(PERMISSION_DENIED",
    ),
    "a disk that fails": (OSError(5, "Input/output error"), r"checkpoints/3: cannot be read \(Input/output error\)"),
}


@pytest.mark.parametrize(("error", "line"), NO_DAMAGE.values(), ids=NO_DAMAGE)
@pytest.mark.parametrize("wrapped", [False, True])
def test_any_other_error_while_restoring_moves_nothing(saved, monkeypatch, error, line, wrapped):
    def fail(self, *args, **kwargs):
        if wrapped:  # as Orbax does
            raise Exception(
                "Encountered error while reading array index: 0. See full TensorStore details: ..."
            ) from error
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.CheckpointManager.restore", fail)
        with pytest.raises(UserError, match=line) as caught:
            restore(saved)
    assert "\n" not in str(caught.value)
    assert all_are_there(saved)
    assert is_step(restore(saved)[0], 3)


def test_an_error_nobody_thought_of_is_raised_as_it_is(saved, monkeypatch):
    def fail(self, *args, **kwargs):
        raise TypeError("restore() got an unexpected keyword")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", fail)
    with pytest.raises(TypeError, match="unexpected keyword"):
        restore(saved)
    assert all_are_there(saved)


def test_no_memory_for_the_digest_moves_nothing(saved, monkeypatch):
    def fail(state):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr("train.record.checkpoint.digest", fail)
    with pytest.raises(UserError, match="there is no memory"):
        restore(saved)
    assert all_are_there(saved)


def test_what_is_called_before_a_save_can_prevent_it(tmp_path):
    def invalid() -> None:
        raise UserError("not yours any more")

    with Checkpoints(tmp_path, keep=3, before=invalid) as checkpoints, pytest.raises(UserError, match="not yours"):
        checkpoints.save(1, state(1), {})
    assert list((tmp_path / "checkpoints").iterdir()) == []

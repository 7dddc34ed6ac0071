"""Checkpoints: what is saved comes back, and what is damaged does not."""

import gc
import json
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
from train.record.checkpoint import Checkpoints, digest

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


def test_the_digest_sees_each_bit():
    first = state(1)
    second = state(1) | {"params": {"w": first["params"]["w"].at[5, 5].set(np.nextafter(np.float32(1), np.float32(2)))}}
    assert digest(first) == digest(state(1)) != digest(second)


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


def test_what_does_not_decode_is_damage(saved, monkeypatch):
    """Also where Orbax says so in an error of its own, around that of TensorStore."""
    from orbax.checkpoint import CheckpointManager

    read = CheckpointManager.restore

    def fail(self, step, args):
        if step == 3:
            raise Exception("Encountered error. See full TensorStore details: {}") from ValueError(
                "DATA_LOSS: Error decoding chunk"
            )
        return read(self, step, args=args)

    monkeypatch.setattr(CheckpointManager, "restore", fail)
    found, notes = restore(saved)
    assert is_step(found, 2)
    assert notes[0].split("(")[1].startswith("DATA_LOSS: Error decoding chunk)")


def test_a_bit_of_any_small_file_is_seen(saved):
    """Of those that say what the others are, too: Orbax reads some of them without a word, and raises anything."""
    for path in files(saved, 3):
        content = path.read_bytes()
        for place in {0, len(content) // 3, len(content) - 1}:
            changed = bytearray(content)
            changed[place] ^= 2
            path.write_bytes(bytes(changed))
            assert is_step(restore(saved)[0], 2), f"{path}, byte {place}"
            (saved / "damaged" / "3").rename(saved / "checkpoints" / "3")
        path.write_bytes(content)
    assert is_step(restore(saved)[0], 3)


def test_a_bit_of_what_is_no_array_is_seen_however_large_it_is(tmp_path):
    """The position in the data and the types of a deep network's arrays may take more than small files hold."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {"next_batch": step, "order": "x" * 2**17})
    path = tmp_path / "checkpoints" / "2" / "extra" / "metadata"
    path.write_bytes(path.read_bytes().replace(b'"next_batch": 2', b'"next_batch": 3').replace(b":2,", b":3,"))
    found, notes = restore(tmp_path)
    assert found.data["next_batch"] == 1
    assert "checkpoint 2" in notes[0]
    assert "(extra/metadata is not what was saved); going on from 1" in notes[0]


@pytest.mark.parametrize("text", ["[]", "[1]", "null", "3", "[" * 5000 + "]" * 5000, '{"extra/metadata": {}}'])
def test_a_seal_that_is_none_is_damage(saved, text):
    (saved / "checkpoints" / "3" / "files.json").write_text(text)
    if text == "[]":
        (saved / "checkpoints" / "3" / "extra" / "metadata").write_text("{}")
    found, notes = restore(saved)
    assert is_step(found, 2)
    assert len(notes) == 1


def test_arrays_that_cannot_be_decoded_say_so_in_one_line(tmp_path, capfd, monkeypatch):
    """Nothing else is printed, also by what Orbax leaves behind to be collected."""
    weights = [state(step) | {"params": {"w": jax.random.normal(jax.random.key(step), (256, 256))}} for step in (1, 2)]
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step, weight in enumerate(weights, start=1):
            checkpoints.save(step, weight, {"next_batch": step})
    largest = max(files(tmp_path, 2), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(bytes(len(content)))  # no array of it can be read
    shown: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", shown.append)
    found, notes = restore(tmp_path, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights[0]))
    gc.collect()
    assert found.step == 1
    assert len(notes) == 1
    assert "is damaged (" in notes[0]
    assert shown == []
    assert capfd.readouterr() == ("", "")


def test_checkpoints_that_were_sealed_by_sizes_alone_still_open(saved):
    seal = saved / "checkpoints" / "3" / "files.json"
    seal.write_text(json.dumps({name: size for name, (size, *_) in json.loads(seal.read_text()).items()}))
    assert is_step(restore(saved)[0], 3)
    files(saved, 3)[-1].write_bytes(b"")
    assert is_step(restore(saved)[0], 2)


def test_a_reader_touches_nothing(saved):
    """Another process may be at work in the folder: its half-written checkpoint, and a damaged one, stay."""
    (saved / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir()
    files(saved, 3)[0].unlink()
    before = sorted(map(str, saved.rglob("*")))
    notes: list[str] = []
    with Checkpoints(saved, keep=1, note=notes.append, writes=False) as checkpoints:
        assert is_step(checkpoints.restore(ABSTRACT), 2)
    assert len(notes) == 1
    assert sorted(map(str, saved.rglob("*"))) == before


def test_what_is_called_before_a_save_can_prevent_it(tmp_path):
    def invalid() -> None:
        raise UserError("not yours any more")

    with Checkpoints(tmp_path, keep=3, before=invalid) as checkpoints, pytest.raises(UserError, match="not yours"):
        checkpoints.save(1, state(1), {})
    assert list((tmp_path / "checkpoints").iterdir()) == []

"""Damage of checkpoints is found, and the one before is taken."""

import gc

import jax
import numpy as np
import pytest

from arch.spec import UserError
from tests.train.child_checkpoint import state
from tests.train.record.saved import ABSTRACT, files, is_step, restore
from train.record.checkpoint import Checkpoints, digest


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


def test_the_digest_sees_each_bit():
    first = state(1)
    second = state(1) | {"params": {"w": first["params"]["w"].at[5, 5].set(np.nextafter(np.float32(1), np.float32(2)))}}
    assert digest(first) == digest(state(1)) != digest(second)


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

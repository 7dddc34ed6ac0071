"""A run folder is itself, whatever its name looks like: brackets and stars in it are no pattern."""

import pytest
from etils import epath

from tests.train.child_checkpoint import state
from tests.train.record.saved import files, is_step, restore
from train.record.checkpoint import Checkpoints
from train.record.metrics import Metrics, read

NAMES = ["s[1]", "s?", "s*", "**", "a{b,c}", "[!x]", "s%20#1 é", "s[1]/[2]"]


@pytest.mark.parametrize(("name", "other"), [("s[1]", "s1"), ("s?/[2]", "sx/2"), ("a{b,c} %20#1 é*", "ab")])
def test_checkpoints(name, other, tmp_path):
    """They come back, are kept as many as asked, and what lies in a folder that the name would match stays."""
    for folder, steps in ((other, (4, 5)), (name, (1, 2, 3))):
        with Checkpoints(tmp_path / folder, keep=2) as checkpoints:
            for step in steps:
                checkpoints.save(step, state(step), {"next_batch": step})
    assert is_step(restore(tmp_path / name)[0], 3)
    assert {path.name for path in (tmp_path / name / "checkpoints").iterdir()} == {"2", "3"}
    assert is_step(restore(tmp_path / other)[0], 5)


def test_damage_is_found_and_leftovers_are_cleared(tmp_path):
    folder, beside = tmp_path / "s[1]", tmp_path / "s1"
    for one in (folder, beside):
        with Checkpoints(one, keep=3) as checkpoints:
            for step in (1, 2):
                checkpoints.save(step, state(step), {"next_batch": step})
        (one / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    largest = max(files(folder, 2), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    found, notes = restore(folder)
    assert is_step(found, 1)
    assert len(notes) >= 1
    assert not (folder / "checkpoints" / "9.orbax-checkpoint-tmp").exists()
    assert (beside / "checkpoints" / "9.orbax-checkpoint-tmp").exists()


@pytest.mark.parametrize("name", NAMES)
def test_metrics(name, tmp_path):
    for folder in (tmp_path / "s1", tmp_path / name):
        with Metrics(folder) as metrics:
            metrics.write(1, {"loss": 1.0})
    with Metrics(tmp_path / name, resume=1) as metrics:
        metrics.write(2, {"loss": 0.5})
    assert [line["step"] for line in read(tmp_path / name)] == [1, 2]
    assert len(list((tmp_path / name / "tensorboard").iterdir())) == 2
    with Metrics(tmp_path / name):
        pass
    assert len(list((tmp_path / "s1" / "tensorboard").iterdir())) == 1
    assert len(list((tmp_path / name / "tensorboard").iterdir())) == 1


def test_what_is_given_as_a_pattern_is_one(tmp_path):
    for name in ("a[1]", "a1"):
        (tmp_path / name).mkdir()
        for file in ("x.1", "x.2", "y.1"):
            (tmp_path / name / file).touch()
    found = epath.Path(tmp_path / "a[1]").glob("x.[2-9]")
    assert [str(path) for path in found] == [str(tmp_path / "a[1]" / "x.2")]

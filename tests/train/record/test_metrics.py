"""Metrics: bit-exact lines, what a resumed run leaves in the file, and event files read by TensorBoard itself."""

import io
import json
import math
import os
import time
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.record import metric_lines
from train.record.metrics import Metrics, of_step, read

LINES = [(step, {"loss": np.float32(1 / (step + 1)), "eval/acc": step / 3}) for step in range(6)]


def write(folder, lines, **options):
    with Metrics(folder, **options) as metrics:
        for step, values in lines:
            metrics.write(step, values)
    return (folder / "metrics.jsonl").read_bytes()


def scalars(folder, tag):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_floats_read_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    singles = rng.integers(0, 2**32, 300, dtype=np.uint32).view(np.float32)
    doubles = rng.integers(0, 2**64, 300, dtype=np.uint64).view(np.float64)
    singles, doubles = singles[np.isfinite(singles)], doubles[np.isfinite(doubles)]
    singles = np.concatenate([singles, np.float32([-0.0, 1e-45, 0.1, 3.4e38])])
    write(tmp_path, [(i, {"x": value}) for i, value in enumerate([*singles, *doubles])], tensorboard=False)
    found = [line["x"] for line in read(tmp_path)]
    np.testing.assert_array_equal(np.float32(found[: len(singles)]).view(np.uint32), singles.view(np.uint32))
    np.testing.assert_array_equal(np.float64(found[len(singles) :]).view(np.uint64), doubles.view(np.uint64))


def test_kinds_of_values(tmp_path):
    values = {
        "python": 2,
        "jax": jnp.float32(0.1),
        "half": jnp.bfloat16(1.5),
        "count": np.int64(2**60),
        "flag": np.bool_(True),
        "replicas": jnp.float32([0.5, 0.25]),
        "nan": math.nan,
        "inf": -math.inf,
    }
    write(tmp_path, [(7, values)])
    (line,) = read(tmp_path)
    assert math.isnan(line.pop("nan"))
    assert line == {
        "step": 7,
        "python": 2,
        "jax": float(np.float32(0.1)),
        "half": 1.5,
        "count": 2**60,
        "flag": 1,
        "replicas": [0.5, 0.25],
        "inf": -math.inf,
    }
    assert type(line["python"]) is int
    assert scalars(tmp_path, "replicas/1") == [(7, 0.25)]
    with pytest.raises(TypeError, match=r"metric 'grid' is float64\[2, 2\]"), Metrics(tmp_path) as metrics:
        metrics.write(0, {"grid": np.ones((2, 2))})


@pytest.mark.parametrize("tail", [b"", b'{"step": 5, "lo', b'{"step": 5', b"{", b'"'])
def test_a_resumed_file_equals_the_uninterrupted_one(tmp_path, tail):
    """Killed at step 5 with a checkpoint of step 3, at any point of writing a line."""
    whole = write(tmp_path / "whole", LINES, tensorboard=False)
    write(tmp_path / "cut", LINES[:5], tensorboard=False)
    with (tmp_path / "cut" / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    assert write(tmp_path / "cut", LINES[4:], resume=3, tensorboard=False) == whole


def test_a_whole_last_line_without_its_newline_stays(tmp_path):
    whole = write(tmp_path, LINES, tensorboard=False)
    (tmp_path / "metrics.jsonl").write_bytes(whole[:-1])
    assert write(tmp_path, [], resume=5, tensorboard=False) == whole


def test_several_lines_of_one_step_stay(tmp_path):
    lines = [(1, {"loss": 1.0}), (1, {"eval/loss": 2.0}), (2, {"loss": 0.5})]
    write(tmp_path, lines, tensorboard=False)
    write(tmp_path, [], resume=1, tensorboard=False)
    assert read(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 1, "eval/loss": 2.0}]


def test_a_new_run_starts_an_empty_file(tmp_path):
    write(tmp_path, LINES)
    write(tmp_path, LINES[:2])
    assert [line["step"] for line in read(tmp_path)] == [0, 1]
    assert [step for step, _ in scalars(tmp_path, "loss")] == [0, 1]


def test_lines_are_there_before_the_writer_is_closed(tmp_path):
    """A killed process must not lose what it wrote."""
    metrics = Metrics(tmp_path)
    metrics.write(*LINES[0])
    assert len(read(tmp_path)) == 1
    metrics.flush()
    assert len(scalars(tmp_path, "loss")) == 1
    metrics.close()


GARBAGE = {
    "no step": b'{"stop": 1}',
    "torn": b'{"step": 1, "lo',
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 10_000,
    "a number of many digits": b'{"step": ' + b"9" * 5000 + b"}",
    "no object": b"7",
    "empty": b"",
    "zeros": bytes(3000),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_line_of_garbage_stops_nobody(tmp_path, garbage):
    """It is told once, by those who go on as by those who read; what is right stays."""
    metrics = Metrics(tmp_path, tensorboard=False)
    for step, values in LINES[:4]:
        metrics.write(step, values)
    mark, path = metrics.mark, tmp_path / "metrics.jsonl"
    metrics.close()
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], garbage, *lines[2:], b""]))
    notes: list[str] = []
    write(tmp_path, LINES[4:], resume=3, mark=mark, tensorboard=False, note=notes.append)
    assert notes == [f"{path}: has changed, it does not hold the 4 lines that were written up to step 3; what is "
                     "missing is lost, the training itself is not touched by it"]  # fmt: skip
    assert [line["step"] for line in read(tmp_path, notes.append)] == [0, 2, 3, 4, 5]
    assert notes[1] == f"{path}: line 2 is no metrics (a JSON object with a whole number `step`) and left out"


def test_lines_that_are_lost_are_told(tmp_path):
    """Of the 60 that a checkpoint knows of 30 are left, or none; once it goes on, nothing is amiss any more."""
    with Metrics(tmp_path, tensorboard=False) as metrics:
        for step in range(1, 61):
            metrics.write(step, {"loss": 1.0})
    path, notes = tmp_path / "metrics.jsonl", list[str]()
    whole = path.read_bytes()
    torn = b"".join(whole.splitlines(keepends=True)[:30])[:-4]
    for content, left in ((whole, 60), (torn, 29), (b"", 0), (whole + b'{"step": 61', 60)):
        path.write_bytes(content)
        with Metrics(tmp_path, resume=60, mark=metrics.mark, tensorboard=False, note=notes.append) as after:
            assert after.mark["lines"] == left
        with Metrics(tmp_path, resume=60, mark=after.mark, tensorboard=False, note=notes.append):
            pass
    path.unlink()
    with Metrics(tmp_path, resume=60, mark=metrics.mark, tensorboard=False, note=notes.append):
        pass
    assert [note.split(": ")[1].split(" lines ")[0] for note in notes] == [f"holds {n} of the 60" for n in (29, 0, 0)]


def test_what_is_written_after_a_checkpoint_does_not_make_its_lines_others(tmp_path):
    """A run that is resumed writes the evaluation that it still owed, of the very step of its checkpoint."""
    metrics = Metrics(tmp_path, tensorboard=False)
    metrics.write(3, {"loss": 1.0})
    mark = metrics.mark
    metrics.write(3, {"val/loss": 2.0})
    metrics.write(4, {"loss": 3.0})
    metrics.close()
    notes: list[str] = []
    with Metrics(tmp_path, resume=3, mark=mark, tensorboard=False, note=notes.append):
        assert of_step(tmp_path, 3) == [{"step": 3, "val/loss": 2.0}, {"step": 3, "loss": 1.0}]
    assert notes == []


@pytest.mark.parametrize("how", ["removed", "replaced", "emptied"])
def test_a_file_that_is_taken_away_while_the_run_writes(tmp_path, how):
    notes: list[str] = []
    path = tmp_path / "metrics.jsonl"
    with Metrics(tmp_path, tensorboard=False, note=notes.append) as metrics:
        metrics.write(*LINES[0])
        if how == "emptied":
            path.write_bytes(b"")
        else:
            path.unlink()
            if how == "replaced":
                path.write_text("of somebody else\n")
        metrics.flush()
        metrics.write(*LINES[1])
        metrics.flush()
    assert [line["step"] for line in read(tmp_path)] == ([1] if how == "emptied" else [0, 1])
    assert len(notes) == 1
    assert notes[0].startswith(f"{path}: was {'changed' if how == 'emptied' else 'removed or replaced'}")


def test_lines_are_on_the_disk_before_a_checkpoint_is_sealed(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    metrics = Metrics(tmp_path, tensorboard=False)
    metrics.write(*LINES[0])
    metrics.flush()
    assert synced[-1] == metrics.mark["size"] == (tmp_path / "metrics.jsonl").stat().st_size
    metrics.close()


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    metrics = Metrics(tmp_path, tensorboard=False)
    metrics.write(*LINES[0])
    file = metrics._file

    class Full:
        def write(self, content):
            if len(content) < 20:
                raise OSError(28, "No space left on device")
            return file.write(content[:15])

        def __getattr__(self, name):
            return getattr(file, name)

    metrics._file = Full()
    with pytest.raises(OSError, match="No space"):
        metrics.write(*LINES[1])
    assert (tmp_path / "metrics.jsonl").stat().st_size == metrics.mark["size"]
    metrics._file = file
    metrics.close()
    assert [line["step"] for line in read(tmp_path)] == [0]


def test_a_million_lines_are_read_once_from_the_end(tmp_path):
    """In blocks: by how much memory they take, and how many lines are looked at."""
    path, count = tmp_path / "metrics.jsonl", 1_000_000
    with path.open("w") as stream:
        stream.writelines(f'{{"step": {step}, "train/loss": 2.5, "x": "{"x" * 40}"}}\n' for step in range(count))
    looked: list[int] = []
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        parse = metric_lines.parsed
        patch.setattr("train.record.metric_lines.parsed", lambda line: looked.append(1) or parse(line))
        with Metrics(tmp_path, resume=count - 1000, tensorboard=False) as metrics:
            assert metrics.mark["lines"] == count - 999
    assert of_step(tmp_path, count - 1000)[0]["step"] == count - 1000
    seconds, (_, most) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(looked) == 1000
    assert most < 20e6
    assert seconds < 10


@given(st.lists(st.binary(max_size=12), max_size=12), st.integers(1, 9))
def test_backwards_gives_all_lines(pieces, block):
    content = b"\n".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.record.metric_lines.BLOCK", block)
        found = list(metric_lines.backwards(io.BytesIO(content)))
    assert [line for _, line in found] == [line for line in reversed(content.split(b"\n")) if line]
    assert all(content[place : place + len(line)] == line for place, line in found)


def test_tensorboard_reads_float32(tmp_path):
    write(tmp_path, LINES)
    assert scalars(tmp_path, "loss") == [(step, float(values["loss"])) for step, values in LINES]
    large = [(0, {"x": 1e300, "y": math.nan})]
    write(tmp_path, large)
    assert scalars(tmp_path, "x") == [(0, math.inf)]
    assert math.isnan(scalars(tmp_path, "y")[0][1])


def test_tensorboard_shows_a_resumed_run_once(tmp_path):
    """Also if the run resumes within the second, when the event files would have one name."""
    write(tmp_path, LINES[:5])
    write(tmp_path, LINES[3:], resume=2)
    write(tmp_path, LINES[5:], resume=4)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3
    assert scalars(tmp_path, "loss") == [(step, float(values["loss"])) for step, values in LINES]


def test_stores_that_cannot_append_get_whole_files(tmp_path, monkeypatch):
    monkeypatch.setattr("train.record.metrics._is_remote", lambda path: True)
    with Metrics(tmp_path, tensorboard=False) as metrics:
        for step, values in LINES[:5]:
            metrics.write(step, values)
        metrics.flush()
        assert len(read(tmp_path)) == 5
    resumed = write(tmp_path, LINES[4:], resume=3, tensorboard=False)
    assert [json.loads(line)["step"] for line in resumed.splitlines()] == [0, 1, 2, 3, 4, 5]

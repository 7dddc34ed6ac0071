"""Metrics: bit-exact lines, what a resumed run leaves in the file, and event files read by TensorBoard itself."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from arch.spec import UserError
from train.metrics import Metrics, read

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


def test_a_spoilt_file_is_told_where(tmp_path):
    write(tmp_path, LINES, tensorboard=False)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace('{"step": 1', '{"stop": 1'))
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: no metrics line"):
        Metrics(tmp_path, resume=5)


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
    monkeypatch.setattr("train.metrics._is_remote", lambda path: True)
    with Metrics(tmp_path, tensorboard=False) as metrics:
        for step, values in LINES[:5]:
            metrics.write(step, values)
        metrics.flush()
        assert len(read(tmp_path)) == 5
    resumed = write(tmp_path, LINES[4:], resume=3, tensorboard=False)
    assert [json.loads(line)["step"] for line in resumed.splitlines()] == [0, 1, 2, 3, 4, 5]

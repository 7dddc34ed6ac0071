"""The study of parallel-shallow networks: its arms are comparable, and the tiny form runs."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from arch.cost import parameters
from arch.spec import UserError
from arch.stacks import Sequential
from arch.stacks.parallel import ParallelStack
from experiments.shallow_again import FORMS, PAPER, get_config
from experiments.study.engine import run_study


@pytest.mark.parametrize("form", FORMS)
def test_arms_differ_in_the_layout_alone(form):
    """Equal parameters, and for the small form equal initial weights."""
    study = get_config(form)
    names = list(study.arms)
    for sequential, parallel in zip(names[::2], names[1::2], strict=True):
        assert (sequential.split()[-1], parallel.split()[-1]) == ("sequential", "parallel")
        one, other = study.arms[sequential], study.arms[parallel]
        assert (one.model.stack, other.model.stack) == (Sequential(), ParallelStack())
        assert dataclasses.replace(other, model=one.model) == one
        assert parameters(one.model) == parameters(other.model)
        assert not list(other.conflicts(1))
    if form == "tiny":
        start = [nnx.state(run.model.build(rngs=nnx.Rngs(0)), nnx.Param) for run in study.arms.values()]
        pairs = zip(*map(jax.tree.leaves, start), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_small_form_spans_the_determination_ratio():
    """From Q = 6.8 to 0.38, as `Q` with the head; without it a multiple of that."""
    study = get_config("cpu")
    told = [float(note.split("Q = ")[1].split(";")[0]) for note in study.notes if "Q = " in note]
    assert told == sorted(told, reverse=True)
    assert told == pytest.approx([6.82, 2.9, 1.11, 0.38], abs=0.015)
    mean, *claims = study.claims
    assert mean.parts == tuple(claims[:4])
    metrics = {(type(claim).__name__, claim.metric) for claim in claims}
    assert metrics == {("RatioBelow", "train/loss"), ("Equivalent", "val/accuracy"), ("Equivalent", None)}


def test_the_paper_is_beside():
    row = {"data": "CIFAR-10", "layout": "parallel", "Q": "[0, 1)", "train/loss": 0.52658, "val/loss": 1.32386}
    assert row in PAPER
    assert len(PAPER) == 16


def test_unknown_forms_are_refused():
    with pytest.raises(UserError, match="cpu"):
        get_config("large")


def test_the_tiny_form_runs(tmp_path):
    results = run_study(get_config("tiny"), "tiny", tmp_path, note=lambda line: None)
    assert [arm.name for arm in results.arms] == ["2 filters sequential", "2 filters parallel"]
    assert all(cell.status == "finished" and cell.metrics["val/loss"] < 10 for cell in results.cells)
    assert len(results.verdicts) == 1

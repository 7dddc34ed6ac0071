"""The study of bits and recovery: its arms differ by the bottleneck alone, which alone is trained, at equal bits."""

import dataclasses

import pytest

from arch.params import split
from experiments.bits_and_recovery import BASE, get_config
from experiments.study.engine import run_study
from experiments.study.match import count
from train.optim.rules import leaves_by_path


@pytest.fixture(scope="module")
def tiny():
    return get_config("tiny")


def test_arms_differ_by_the_bottleneck_alone(tiny):
    base, *arms = tiny.arms.values()
    for run in arms:
        bare = dataclasses.replace(run.model.block, at=())
        assert dataclasses.replace(run.model, block=bare) == base.model
        assert run.data == base.data
        assert abs(count(run, "bits") - 32) <= 4
        _, params, _ = split(run.abstract_model())
        trained = set(leaves_by_path(params)) - run.optimizer.frozen(params)
        assert all(".at.mlp_out." in path for path in trained)
        assert trained or run.model.block.at[0][1].__class__.__name__ in ("Grouped", "Residual")  # running means


@pytest.mark.slow
def test_the_tiny_form_runs(tiny, tmp_path):
    results = run_study(tiny, "bits_and_recovery.tiny", tmp_path)
    assert {cell.arm for cell in results.cells} == set(tiny.arms)
    for cell in results.cells:
        told = cell.metrics
        if cell.arm == BASE:
            assert told["suite/recovered_score"] == 1.0
        else:
            assert told["suite/recovered_score"] != 1.0
            assert 0 <= told["suite/bits_used"] <= told["suite/bits_ceiling"]

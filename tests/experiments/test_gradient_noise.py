"""The study of gradient noise: its arms differ in the noise alone, and the tiny form runs."""

import dataclasses

import pytest

from arch.layers.init.plain import Zeros
from arch.spec import UserError
from experiments.gradient_noise import FORMS, PAPER, get_config
from experiments.study.engine import run_study
from train.optim import GradientNoise


@pytest.mark.parametrize("form", FORMS)
def test_arms_differ_in_the_noise_alone(form):
    study = get_config(form)
    names = list(study.arms)
    for plain, noisy in zip(names[::2], names[1::2], strict=True):
        assert noisy == f"{plain}, noise"
        one, other = study.arms[plain], study.arms[noisy]
        assert one.optimizer.noise is None
        assert other.optimizer.noise == GradientNoise(eta=0.01, gamma=0.55)
        assert dataclasses.replace(other, optimizer=one.optimizer) == one
        assert dataclasses.replace(other.optimizer, noise=None) == one.optimizer
        assert not list(other.conflicts(1))


def test_the_bars_of_the_small_form():
    """20 layers from Simple Init and He, 10 from zero at twice the rate; clipped at 10."""
    study = get_config("cpu")
    shapes = {name: (run.model.depth, run.model.hidden, run.optimizer.learning_rate, run.steps)
              for name, run in study.arms.items() if "noise" not in name}  # fmt: skip
    assert shapes == {"simple": (20, 50, 0.1, 12_000), "zero": (10, 50, 0.2, 6_000), "he": (20, 50, 0.1, 4_000)}
    assert {(run.optimizer.clip, run.optimizer.momentum, run.batch) for run in study.arms.values()} == {(10.0, 0.0, 32)}
    bars = {(claim.arm, claim.bar) for claim in study.claims if hasattr(claim, "bar")}
    assert bars == {("simple, noise", 0.85), ("simple", 0.2), ("zero, noise", 0.9), ("zero", 0.2)}


def test_the_paper_form_has_the_rows_of_its_table():
    study = get_config("")
    assert len(study.arms) == len(PAPER) * 2  # two learning rates
    assert study.seeds == 20
    assert {run.model.depth for run in study.arms.values()} == {20}
    assert isinstance(study.arms["zero, clip 10, lr 0.1, noise"].model.init, Zeros)
    best = {(row["init"], row["clip"], row["eta"]): row["best accuracy"] for row in PAPER}
    assert (best["zero", "10", 0.0], best["zero", "10", 0.01]) == (11.4, 94.5)


def test_unknown_forms_are_refused():
    with pytest.raises(UserError, match="cpu"):
        get_config("large")


def test_the_tiny_form_runs(tmp_path):
    """Zero weights stay dead without noise and move with it, so that the two arms differ."""
    results = run_study(get_config("tiny"), "tiny", tmp_path, note=lambda line: None)
    assert [arm.name for arm in results.arms] == ["zero", "zero, noise"]
    assert all(cell.status == "finished" for cell in results.cells)
    plain, noisy = (results.values(arm, "val/loss") for arm in ("zero", "zero, noise"))
    assert all(plain[seed] != noisy[seed] for seed in (0, 1))
    assert len(results.verdicts) == 1

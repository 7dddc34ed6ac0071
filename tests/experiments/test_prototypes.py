"""The study of prototypes: its arms differ in their terms alone, and the tiny form runs."""

import dataclasses

import pytest

from arch.bottlenecks.prototypes import PrototypeLayer
from arch.spec import UserError
from experiments.prototypes import FORMS, get_config
from experiments.study.engine import run_study


@pytest.mark.parametrize("form", FORMS)
def test_arms_differ_in_the_terms_alone(form):
    study = get_config(form)
    base = study.arms["prototypes"]
    for name, terms in {"without R1": (0, 1), "without R2": (1, 0), "without R1, R2": (0, 0)}.items():
        one = study.arms[name]
        layer = one.model.prototypes
        assert (layer.near_inputs, layer.near_prototypes) == terms
        model = dataclasses.replace(one.model, prototypes=PrototypeLayer(layer.count))
        assert dataclasses.replace(one, model=model) == base
    plain = study.arms["plain head"]
    assert plain.model.encoder == base.model.encoder
    assert (plain.data, plain.optimizer, plain.steps, plain.batch) == (
        base.data, base.optimizer, base.steps, base.batch
    )  # fmt: skip
    assert not [error for run in study.arms.values() for error in run.conflicts(1)]


def test_the_released_constants():
    """20, 1, 1, 1; 15 prototypes; Adam at 2e-3; batches of 250, as many as 1,500 epochs have."""
    run = get_config("").arms["prototypes"]
    assert (run.objective.weight, run.model.reconstruction) == (20.0, 1.0)
    assert run.model.prototypes == PrototypeLayer(15, 1.0, 1.0)
    assert (run.optimizer.learning_rate, run.batch, run.steps) == (2e-3, 250, 330_000)
    assert run.model.encoder.features(run.model.image) == 40
    with pytest.raises(UserError, match="cpu"):
        get_config("large")


@pytest.mark.slow
def test_the_tiny_form_runs(tmp_path):
    results = run_study(get_config("tiny"), "tiny", tmp_path, note=lambda line: None)
    assert all(cell.status == "finished" for cell in results.cells)
    for cell in results.cells:
        assert ("suite/agreement_score" in cell.metrics) == (cell.arm != "plain head") == bool(cell.pictures)
    assert len(results.verdicts) == 8

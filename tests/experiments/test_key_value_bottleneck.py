"""The study of the key-value bottleneck: what its arms share, what a step may change, and the tiny form."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.bottlenecks.keys import EmaKeys, FixedKeys
from arch.spec import UserError
from experiments.key_value_bottleneck import ALL, CEILING, FORMS, ONE, PHASES, PROBE, get_config
from experiments.study.engine import run_study
from experiments.study.from_arm import parent
from train.data import ClassIncremental
from train.setup import prepare


@pytest.mark.parametrize("form", FORMS)
def test_arms_share_the_encoder_and_the_phases(form):
    study = get_config(form)
    arms = dict(study.arms)
    pretrained = arms.pop("encoder", None)
    assert len({run.model.encoder for run in arms.values()}) == 1
    for name, run in arms.items():
        assert not list(run.conflicts(1)), name
        assert run.optimizer.freeze == (() if name == ALL else ("^encoder",))
        if name in (CEILING, "keys of bottleneck", f"keys of {ONE}"):
            continue
        order = run.data.order
        assert isinstance(order, ClassIncremental)
        whole = order.read * PHASES == run.batch * run.steps
        assert whole or (name.startswith("keys of") and run.batch * run.steps <= order.read)  # phase 1 and no more
    if pretrained is not None:
        assert pretrained.objective.weight == 0.0
        assert {parent(arms[name]) for name in (PROBE, ALL, "keys of bottleneck")} == {"encoder"}


def test_values_are_trained_on_keys_of_another_arm_at_a_rate_in_heads():
    study = get_config("cpu")
    for name in ("bottleneck", "bottleneck, keys of phase 1", ONE):
        keys, run = study.arms[f"keys of {name}"], study.arms[name]
        assert isinstance(keys.model.bottleneck.keys, EmaKeys)
        assert isinstance(run.model.bottleneck.keys, FixedKeys)
        assert dataclasses.replace(run.model.bottleneck, keys=EmaKeys()) == keys.model.bottleneck
        assert parent(run) == f"keys of {name}"
        assert run.optimizer.learning_rate == 3.0 * run.model.bottleneck.heads
        assert (run.optimizer.momentum, run.optimizer.clip, run.optimizer.weight_decay) == (0.0, None, 0.0)


def test_unknown_forms_are_refused():
    with pytest.raises(UserError, match="fashion"):
        get_config("large")


@pytest.fixture(scope="module")
def stepped():
    """Name of the arm -> (state before, after a step, after one on other labels), of the tiny form without phases."""
    found = {}
    for name in ("keys of bottleneck", "bottleneck"):
        run = dataclasses.replace(get_config("tiny").arms[name], start=None)
        dataset = run.data.build()
        program = prepare(run, dataset.description)
        batch = next(dataset.train(run.batch, 0))
        other = {**batch, "label": (batch["label"] + 3) % 10}
        start = jax.device_get(program.start())
        states = [start]
        for one in (batch, other):
            state = jax.device_put(start, program.shardings)
            states.append(jax.device_get(program.train_step(state, program.place(one), program.go())[0]))
        found[name] = states
    return found


def test_a_step_on_values_changes_rows_that_were_hit_and_nothing_else(stepped):
    before, after, _ = stepped["bottleneck"]
    jax.tree.map(np.testing.assert_array_equal, after["buffers"], before["buffers"])
    jax.tree.map(np.testing.assert_array_equal, after["params"]["encoder"], before["params"]["encoder"])
    moved = np.any(after["params"]["bottleneck"]["values"] != before["params"]["bottleneck"]["values"], axis=-1)
    assert 1 <= moved.sum() < moved.size
    assert np.all(moved.any(axis=1))  # one row at least of every head


def test_keys_do_not_depend_on_labels(stepped):
    before, after, other = stepped["keys of bottleneck"]
    jax.tree.map(np.testing.assert_array_equal, after["buffers"], other["buffers"])
    keys, moved = before["buffers"]["bottleneck"]["keys"], after["buffers"]["bottleneck"]["keys"]
    assert not np.array_equal(keys["table"], moved["table"])
    np.testing.assert_array_equal(
        after["buffers"]["bottleneck"]["projection"]["matrix"], before["buffers"]["bottleneck"]["projection"]["matrix"]
    )
    values = [state["params"]["bottleneck"]["values"] for state in (after, other)]
    assert not np.array_equal(*values)


@pytest.mark.slow
def test_the_tiny_form_runs(tmp_path):
    results = run_study(get_config("tiny"), "tiny", tmp_path, note=lambda line: None)
    assert all(cell.status == "finished" for cell in results.cells)
    for cell in results.cells:
        assert ("suite/forgetting_error" in cell.metrics) == (len(cell.matrices) == 1)
    by_arm = {cell.arm: cell for cell in results.cells if cell.phase == "seeds"}
    (shown,) = by_arm[PROBE].matrices
    assert np.asarray(shown.values).shape == (PHASES, PHASES)
    last = [by_arm[PROBE].metrics[f"phase{phase}/accuracy"] for phase in range(1, PHASES + 1)]
    np.testing.assert_allclose(shown.values[-1], last, atol=1e-4)
    assert by_arm[PROBE].metrics["suite/average_accuracy"] == pytest.approx(np.mean(last))
    assert len(results.verdicts) == 7

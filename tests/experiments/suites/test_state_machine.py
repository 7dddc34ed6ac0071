"""Scores of state machines: counts by hand, distances against SciPy, and interventions that change nothing."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import PerHead
from arch.bottlenecks.top_k import TopK
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import split
from arch.stacks.sequential import Sequential
from experiments.suites import state_machine
from experiments.suites.base import Asked, score
from experiments.suites.state_machine import (
    StateCodes,
    TransitionValidity,
    saved_on,
    state_codes,
    valid_share,
)
from experiments.suites.state_steering import StateSteering, _Pairs, _steered, beside, distance, profiles
from train.data.reversal import Reversed
from train.data.state_machine import Machine, StateMachine
from train.optim import AdamW, Constant
from train.run import Run
from train.setup import prepare
from train.trained import TrainedRun

MACHINE = Machine(np.array([[1, 2], [0, 3], [2, 3], [0, 1]]))


def test_transitions_by_hand():
    """0 1 3 0 (three edges), and 0 3 (none), 3 to what is no state, and back."""
    digits = np.array([[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 2, 0, 0, 0]])
    assert valid_share(MACHINE, digits) == 3 / 6


def test_precision_beside_neurons_by_hand():
    """Code 2 fires on both tokens of state 0 and on one other; of state 1 code 0 has one of two, precisely."""
    codes = np.array([[2], [2], [2], [0], [1], [1]])
    label = np.array([0, 0, -1, 1, 1, -1])
    exact = (label == 0).astype(float)[:, None]
    weak = np.array([3.0, 2.0, 5.0, 1.0, 9.0, 4.0])[:, None]
    told = state_codes(codes, label, 3, 3, {"neuron": exact, "hidden": weak})
    assert told["code_precision_score"] == pytest.approx((2 / 3 + 1) / 2)
    assert told["code_recall_score"] == pytest.approx((1 + 0.5) / 2)
    # State 0, recall 1: exact has 1, -weak at most -3: {3, 2, 1, ...}, 2 of 3. State 1, recall 1/2: -exact fires
    # on four, two of them right; weak at least 9 fires on one of state 1 alone, as does -weak.
    assert told["neuron_precision_score"] == pytest.approx((1 + 2 / 4) / 2)
    assert told["hidden_precision_score"] == pytest.approx((2 / 3 + 1) / 2)
    assert told["precision_margin_score"] == pytest.approx(5 / 6 - 3 / 4)
    assert told["hidden_margin_score"] == pytest.approx(0)


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), (2, 7))
    p[0], q[0] = [1, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0]
    np.testing.assert_allclose(distance(p, q), [jensenshannon(*both) for both in zip(p, q, strict=True)], rtol=1e-12)
    assert distance(p[0], q[0]) == pytest.approx(np.sqrt(np.log(2)))
    assert (distance(p, p) == 0).all()


def test_profiles_by_hand():
    """State 0 has code 4 twice and code 1 once, state 1 code 2 alone; first digits count in the frequencies alone."""
    codes = np.array([[[5, 5, 4, 5, 2], [5, 5, 4, 5, 1]]])[..., None]  # L = 1, B = 2, T = 5, k = 1
    found, counts = profiles(codes, np.array([[0, 1], [0, 0]]), 2, 6)
    np.testing.assert_array_equal(found, [[[4], [2]]])
    np.testing.assert_array_equal(counts, [[0, 1, 1, 0, 2, 6]])
    two, _ = profiles(np.repeat(codes, 2, axis=-1), np.array([[0, 1], [0, 0]]), 2, 6)
    np.testing.assert_array_equal(two, [[[4, 1], [2, 2]]])  # state 1 has no second


def test_controls_fire_about_as_often_and_are_others():
    rng = np.random.default_rng(0)
    counts = np.array([[100, 0, 60, 90, 80, 70, 50, 40, 30, 20]])
    codes = np.tile(np.array([0, 4, 9], np.int32)[:, None], (200, 1))[None]
    found = beside(codes, counts, rng)[0, :, 0]
    for code, allowed in ((0, {3, 4, 5, 2, 6, 7}), (4, {0, 3, 5, 2, 6, 7}), (9, {8, 7, 6, 2, 5, 4})):
        assert set(found[codes[0, :, 0] == code]) == allowed
    alone = np.zeros((1, 4), np.int64)
    alone[0, 2] = 7
    np.testing.assert_array_equal(beside(np.full((1, 5, 1), 2), alone, rng), np.full((1, 5, 1), 2))


def opened_with(*at):
    block = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(), at=at)
    data = StateMachine(states=16, edges=3, length=6, rows=8, held_out=12, tested=12)
    run = Run(Decoder(5, 8, 2, block, stack=Sequential()), data, optimizer=AdamW(1e-2, Constant()), batch=4, steps=1)
    dataset = data.build()
    program = prepare(run, dataset.description)
    state = program.start()
    params = jax.tree.map(lambda x: x * 8.0 if x.ndim > 1 else x, state["params"])
    return TrainedRun(program, {**state, "params": params}, dataset, 0)


@pytest.fixture(scope="module")
def opened():
    codes = Codebook(7, k=2, prenorm="layer")
    return opened_with(("attn.z", PerHead(codes)), ("mlp_out", codes))


@pytest.mark.parametrize(
    ("site", "spec", "size"),
    [
        ("attn.z", PerHead(Codebook(7, k=2, prenorm="layer")), 14),
        ("mlp_out", Residual(VectorQuantized(4), stages=2), 8),
        ("mlp_out", TopK(12, k=9), 12),
    ],
    ids=["heads", "stages", "amplitudes"],
)
def test_which_codes_of_a_layer_fire(site, spec, size, monkeypatch):
    """Those of each head and stage by numbers of their own, and none without an amplitude."""
    model, seen = opened_with((site, spec)), {}
    monkeypatch.setattr(state_machine, "state_codes", lambda codes, *rest: seen.update(codes=codes, size=rest[2]) or {})
    asked = Asked(model, "test", 12, batch=12)
    StateCodes(site=site).measure(asked)
    saved = saved_on(asked, site.replace(".", r"\.") + r"\.(codes|amplitudes)")
    codes = np.asarray(saved[f"{site}.codes"])[-1].astype(int)
    if codes.ndim == 4:  # heads
        codes = codes + 7 * np.arange(2)[:, None]
    elif f"{site}.amplitudes" in saved:
        codes = np.where(np.asarray(saved[f"{site}.amplitudes"])[-1] > 0, codes, -1)
        assert 0 < (codes < 0).mean() < 1
    else:
        codes = codes + 4 * np.arange(2)
    assert seen["size"] == size
    np.testing.assert_array_equal(seen["codes"], codes.reshape(len(seen["codes"]), -1))


def test_codes_that_mean_nothing_alone_are_not_activated(opened):
    for spec, why in ((Residual(VectorQuantized(4), stages=2), "chosen in stages"), (TopK(12, k=3), "have amplitudes")):
        block = dataclasses.replace(opened.program.run.model.block, at=(("mlp_out", spec),))
        model = dataclasses.replace(opened.program.run.model, block=block)
        run = dataclasses.replace(opened.program.run, model=model)
        assert f"the codes of mlp_out {why}" in StateSteering().refusal(run).replace("are chosen", "chosen")
        assert StateCodes().refusal(run) == ""


def test_activating_what_is_active_changes_nothing_and_else_the_rest_of_the_row_does_not(opened):
    asked = Asked(opened, "test", 12, batch=12)
    tokens, places = asked.rows["tokens"][:, :-1], np.arange(12) % 5 * 2 + 2
    saved = saved_on(asked, r".*\.codes")
    own = {name.removesuffix(".codes"): x[:, np.arange(12), places] for name, x in saved.items()}
    parts = split(opened.model)
    off, on = ({site: np.full(2, value) for site in own} for value in (False, True))
    plain = np.asarray(jax.nn.softmax(opened.model(Inputs(tokens)).logits))[np.arange(12), places]
    np.testing.assert_allclose(_steered(*parts, tokens, places, own, off), plain, rtol=1e-5)
    np.testing.assert_allclose(_steered(*parts, tokens, places, own, on), plain, rtol=1e-5)
    other = {site: (x + 1) % 7 for site, x in own.items()}
    for site in own:
        one = {**off, site: np.array([False, True])}
        assert np.abs(_steered(*parts, tokens, places, other, one) - plain).max() > 1e-3
    np.testing.assert_allclose(_steered(*parts, tokens, places, other, off), plain, rtol=1e-5)


def test_scores_of_an_untrained_model(opened):
    asked = Asked(opened, "test", 12, batch=8)
    found = _Pairs(asked, {"mlp_out": saved_on(asked, r"mlp_out\.codes")["mlp_out.codes"]}, 2)
    states = opened.dataset.machine.read(asked.rows["tokens"][:, 1:])[:, :-1]
    now = np.tile(states, (2, 1))[np.arange(24), found.places // 2 - 1]
    assert (found.target != now)[found.usable].all()
    assert np.isin(found.target[found.usable], states).all()
    assert found.left("mlp_out", np.zeros(2, bool)) == (1.0, 1.0)
    told = score((StateCodes(rows=12), StateSteering(rows=12)), opened, "test")
    assert 0 < told["neuron_precision_score"] <= 1
    assert told["precision_margin_score"] == pytest.approx(
        told["code_precision_score"] - told["neuron_precision_score"]
    )
    assert told["mlp_distance_error"] == pytest.approx(found.left("mlp_out", np.ones(2, bool))[0], rel=0.5)
    assert told["mlp_divergence_error"] > 0


def test_what_cannot_be_scored(opened):
    other = dataclasses.replace(opened.program.run, data=Reversed())
    for one in (TransitionValidity(), StateCodes(), StateSteering()):
        assert "needs walks on a StateMachine; Reversed is none" in one.refusal(other)
        assert one.refusal(opened.program.run) == ""

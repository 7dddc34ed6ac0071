"""Every foreign mechanism through everything that the framework offers: no file of it knows of any of them."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from experiments.config.stored import from_json, to_json
from tests.extension.cases import CASES
from tests.extension.harness import command_line, difference, resumed, steps, tapped, untapped
from train.estimate import row_flops

each = pytest.mark.parametrize("name", CASES)


@each
def test_from_the_command_line(name):
    """The overrides give the run, which is written into its folder and read again as it was."""
    run = command_line(*CASES[name].words)
    assert run != command_line()
    assert from_json(to_json(run)) == run


@each
def test_it_trains(name):
    done = steps(command_line(*CASES[name].words))
    assert np.isfinite([list(one.values()) for one in done.told]).all()
    assert all(np.isfinite(value) for value in done.evaluated.values())
    if CASES[name].learns:
        assert done.losses[-1] < done.losses[0]
    assert len(set(map(float, done.losses))) == len(done.losses)


@each
def test_flops(name):
    run = command_line(*CASES[name].words)
    assert row_flops(run) == CASES[name].flops


@each
def test_a_member_of_an_ensemble_is_its_lone_run(name):
    run = command_line(*CASES[name].words)
    together, alone = steps(run, seeds=(1, 0)), steps(run)
    for mine, own in zip(together.told, alone.told, strict=True):
        for what, value in own.items():
            np.testing.assert_allclose(mine[what][1], value, rtol=3e-5, atol=1e-6, err_msg=what)
    state = jax.tree.map(lambda leaf: leaf[1], together.state)
    assert difference(state["params"], alone.state["params"]) < 2e-5
    assert difference(state["buffers"], alone.state["buffers"]) < 1e-5
    assert together.losses[0][0] != together.losses[0][1]


@each
def test_resumed_is_uninterrupted(name, tmp_path):
    """Parameters, buffers and the optimiser's state bit by bit, and the metrics of every step."""
    whole = steps(command_line(*CASES[name].words))
    state, told = resumed(whole, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, whole.state)
    jax.tree.map(np.testing.assert_array_equal, told, whole.told[-len(told) :])


@each
def test_taps(name):
    """It can be looked into at its own sites, and looking changes nothing."""
    case = CASES[name]
    done = steps(command_line(*case.words))
    total, taps = tapped(done, "|".join(map(re.escape, case.sites)))
    shape = lambda leaf: tuple(map(np.shape, leaf)) if isinstance(leaf, tuple) else np.shape(leaf)  # noqa: E731
    assert {site: shape(saved) for site, saved in taps.items()} == dict(case.sites)
    assert total == pytest.approx(untapped(done), rel=1e-6)

"""Every foreign mechanism through everything that the framework offers: no file of it knows of any of them."""

from __future__ import annotations

import pickle
import re

import jax
import numpy as np
import pytest

from arch.models.base import Inputs
from experiments.config.stored import from_json, to_json
from tests.extension.cases import CASES, COUPLED, PAIRS
from tests.extension.harness import ROWS, command_line, continued, difference, resumed, steps, tapped, untapped
from tests.train import children
from train.estimate import row_flops

each = pytest.mark.parametrize("name", CASES)


@each
def test_from_the_command_line(name):
    """The overrides give the run, which is written into its folder and read again as it was."""
    run = command_line(*CASES[name].words)
    assert run != command_line()
    assert from_json(to_json(run), trust=True) == run


@each
def test_it_trains(name):
    done = steps(command_line(*CASES[name].words))
    assert np.isfinite([list(one.values()) for one in done.told]).all()
    assert all(np.isfinite(value) for value in done.evaluated.values())
    if CASES[name].learns:
        assert done.evaluated["loss"] < done.before["loss"]
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


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.decodes])
def test_cached_decoding_is_the_full_forward(name):
    """Token by token, and so again after some were taken back."""
    done = steps(command_line(*CASES[name].words))
    rng = np.random.default_rng(0)
    tokens = lambda length: rng.integers(1, 16, (3, length)).astype(np.int32)  # noqa: E731
    source = None if name not in PAIRS else Inputs(tokens=tokens(5), segments=np.tril(np.ones((3, 5), np.int32), 2))
    whole, once, again = continued(done.model, Inputs(tokens=tokens(12), source=source), cut=7, back=3)
    np.testing.assert_allclose(once, whole, atol=2e-5)
    np.testing.assert_allclose(again, whole[:, -3:], atol=2e-5)


@pytest.fixture(scope="module")
def spread(request, tmp_path_factory):
    """(name, place of the mesh) -> what 8 devices made of what one began with, of the cases that are to be tested."""
    folder = tmp_path_factory.mktemp("spread")
    asked = [item for item in request.session.items if item.originalname == "test_eight_devices_are_one"]
    for name in {item.callspec.params["name"] for item in asked}:
        case = {**CASES, **COUPLED}[name]
        (folder / f"{name}.start").write_bytes(pickle.dumps(steps(command_line(*case.words)).first))
    children.finish(children.start("tests.extension.sharded", folder, devices=8), timeout=600)
    return lambda name, place: pickle.loads((folder / f"{name}.{place}").read_bytes())


@pytest.mark.timeout(900)  # for the child, which compiles a dozen programs, on a machine that has other work too
@pytest.mark.parametrize("name", {**CASES, **COUPLED})
def test_eight_devices_are_one(name, spread):
    case, alone = {**CASES, **COUPLED}[name], steps(command_line(*{**CASES, **COUPLED}[name].words))
    for place, mesh in enumerate(case.meshes):
        done = spread(name, place)
        pairs = list(zip(done.told, alone.told, strict=True))
        for mine, own in pairs if done.evaluated is None else [*pairs, (done.evaluated, alone.evaluated)]:
            for what, value in own.items():
                np.testing.assert_allclose(mine[what], value, rtol=2e-5, atol=1e-6, err_msg=f"{what} {mesh}")
        assert difference(done.state["params"], alone.state["params"]) < 1e-5
        assert difference(done.state["buffers"], alone.state["buffers"]) < 1e-5
        assert done.parts == (1 if mesh == ROWS else 4), "what is to be split lies whole on every device"

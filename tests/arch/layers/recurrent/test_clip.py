"""Bounds: how far the annealed one is, and that an update, not a micro-batch or an evaluation, moves it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.buffers import advance
from arch.layers.recurrent.clip import AnnealedClip, ConstantClip
from arch.layers.recurrent.lstm import LSTM
from arch.layers.recurrent.lstm_cell import LSTMCell
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import merge, split
from arch.spec import SpecError
from arch.taps import Tap
from tests.arch import tiny

CLIP = AnnealedClip(start=0.5, end=0.1, steps=4)


@pytest.fixture(scope="module")
def model():
    mixer = LSTM(hidden=8, cell=LSTMCell(clip=CLIP))
    return Decoder(vocab=tiny.V, width=16, depth=2, block=PreNorm(mixer=mixer)).build(rngs=nnx.Rngs(0))


def test_it_falls_evenly_with_the_updates_and_stays(model):
    """As the states of a model show, whose layers each count; two micro-batches are one update."""
    graphdef, params, buffers = split(model)
    params = jax.tree.map(lambda leaf: 40.0 * leaf, params)
    tokens = jnp.asarray(tiny.tokens(2, 6))

    @tiny.jit
    def run(buffers):
        return merge(graphdef, params, buffers)(Inputs(tokens=tokens), training=True, tap=Tap(save="lstm.c"))

    reached = []
    for _ in range(6):
        out = run(buffers)
        reached.append(np.abs(out.taps["lstm.c"]).max(axis=(1, 2, 3)))
        twice = jax.tree.map(lambda one: one + one, out.statistics)
        buffers = advance(model, buffers, twice)
    np.testing.assert_allclose(reached, np.array([[0.5, 0.4, 0.3, 0.2, 0.1, 0.1]] * 2).T, atol=1e-6)
    np.testing.assert_array_equal(buffers["stack"]["blocks"]["mixer"]["forward"]["cell"]["clip"]["updates"], [6, 6])


def test_an_evaluation_moves_nothing(model):
    assert not model(Inputs(tokens=jnp.asarray(tiny.tokens(1, 3)))).statistics


def test_mistakes_are_told():
    for make, told in (
        (lambda: ConstantClip(0.0), "delta=0.0: must be greater than 0"),
        (lambda: AnnealedClip(steps=0), "steps=0: must be at least 1"),
    ):
        with pytest.raises(SpecError, match=told):
            make()

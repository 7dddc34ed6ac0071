"""Placements: asked at every crossing of the residual stream, gone after the trace, nothing without one."""

import jax
import jax.numpy as jnp
import pytest

from arch.sharding import RESIDUAL_AXES, activations, constrain
from tests.arch import tiny


class OneDevice:
    """A placement on one device that tells `see` what it is asked to place."""

    platform = "cpu"

    def __init__(self, see):
        self.see = see

    def __call__(self, x, axes):
        self.see(x, axes)
        return x

    def couple_rows(self):
        pass

    def parts(self, axis):
        return 1

    def split(self, fn, inputs, output):
        return fn


@pytest.mark.parametrize(("loop", "crossings"), [("scan", 2), ("unroll", 4)])
def test_the_residual_stream_is_placed(loop, crossings):
    """After the embedding and after each block; the scan traces one block."""
    forward, params = tiny.forward(tiny.decoder(depth=3, loop=loop))
    seen = []
    with activations(OneDevice(lambda x, axes: seen.append((x.shape, axes)))):
        jax.make_jaxpr(forward)(params, tiny.tokens(2, 5))
    assert seen == [((2, 5, tiny.D), RESIDUAL_AXES)] * crossings
    jax.make_jaxpr(forward)(params, tiny.tokens(2, 5))
    assert len(seen) == crossings


def test_a_failed_trace_removes_its_placement():
    with pytest.raises(ZeroDivisionError), activations(OneDevice(lambda x, axes: 1 / 0)):
        constrain(jnp.zeros((1, 1, 1)), RESIDUAL_AXES)
    x = jnp.zeros((1, 1, 1))
    assert constrain(x, RESIDUAL_AXES) is x

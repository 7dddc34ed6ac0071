"""Matrices and LSTMs of small integers against numpy; how far a quantised GNMT is from the trained one."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.layers.heads.clipped import ClippedHead
from arch.layers.init.initializers import Normal
from arch.layers.recurrent.clip import AnnealedClip, ConstantClip
from arch.layers.recurrent.int8 import Rows, dequantized, product, quantize_rows
from arch.layers.recurrent.int8_lstm import Int8LSTMCell, int8_cell
from arch.layers.recurrent.lstm_cell import LSTMCell
from arch.models.base import Inputs
from arch.models.gnmt_int8 import quantized
from arch.params import ParamFactory, merge, split
from arch.spec import SpecError
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.models.test_gnmt import gnmt, pairs

ONE = 32767


def test_rows_are_within_half_a_step():
    kernel = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float32)
    kernel[:, 2, 3] = 0
    kernel[0, 0, 0] = -9
    rows = quantize_rows(jnp.asarray(kernel))
    assert (rows.values.dtype, rows.scales.shape) == (jnp.int8, (4, 5))
    np.testing.assert_allclose(rows.scales, np.abs(kernel).max(0))
    gap = np.abs(np.asarray(dequantized(rows)) - kernel)
    assert (gap <= np.asarray(rows.scales) / 254 * 1.001).all()
    assert (gap > np.asarray(rows.scales) / 300)[:, :2].any(), "nothing was rounded"
    assert (int(rows.values.min()), int(rows.values[0, 0, 0])) == (-127, -127)


def test_a_product_is_that_of_the_integers():
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal((3, 2, 6)), rng.standard_normal((6, 4, 5))
    rows = quantize_rows(jnp.asarray(kernel, jnp.float32))
    largest = np.abs(x).max(-1, keepdims=True)
    integers = np.round(127 * x / largest).astype(np.int64)
    expected = np.einsum("abi,igh->abgh", integers, np.asarray(rows.values, np.int64))
    expected = expected * (largest / 127)[..., None] * (np.asarray(rows.scales, np.float64) / 127)
    np.testing.assert_allclose(product(jnp.asarray(x, jnp.float32), rows), expected, rtol=1e-5)
    assert isinstance(rows, Rows)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_the_cell_is_the_recurrence_in_integers(delta):
    """numpy, int64: the same states but for the last unit, over many steps; c reaches its bound and stays in it."""
    make = ParamFactory(jax.random.key(0), Normal(1.0))
    trained = LSTMCell(clip=ConstantClip(delta)).build({"x": 3}, 5, make)
    graphdef, _, _ = split(Int8LSTMCell().build({"x": 3}, 5, make))
    cell = merge(graphdef, {}, int8_cell(trained, jnp.float32(delta)))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    bits = lambda x: np.round(x * ONE).astype(np.int64)  # noqa: E731
    x = np.random.default_rng(2).standard_normal((1, 12, 3)).astype(np.float32)
    gates = np.asarray(cell.product("x", jnp.asarray(x)), np.float64)
    rows = quantize_rows(trained.h.kernel[...])
    weights = np.asarray(rows.values, np.int64), np.asarray(rows.scales, np.float64) / 127
    step, state = tiny.jit(cell.step), cell.empty(1, jnp.float32)
    reached = 0
    for t in range(12):
        old_h, old_c = (np.asarray(leaf, np.int64)[0] for leaf in state)
        largest = max(np.abs(old_h).max(), 1e-9)
        sums = np.einsum("k,kgh->gh", np.round(127 * old_h / largest).astype(np.int64), weights[0])
        i, f, o, g = gates[0, t] + sums * weights[1] * (largest * delta / ONE / 127)
        c = np.round(bits(sigmoid(f)) * old_c / ONE) + np.round(bits(sigmoid(i)) * bits(np.tanh(g)) / (ONE * delta))
        c = np.clip(c, -ONE, ONE)
        h = np.clip(np.round(bits(sigmoid(o)) * bits(np.tanh(c * delta / ONE)) / (ONE * delta)), -ONE, ONE)
        state = step(jnp.asarray(gates[:, t], jnp.float32), state, jnp.float32(delta))
        assert state.c.dtype == state.h.dtype == jnp.int16
        assert np.abs(np.asarray(state.c, np.int64)[0] - c).max() <= 2
        assert np.abs(np.asarray(state.h, np.int64)[0] - h).max() <= 4
        reached = max(reached, np.abs(np.asarray(state.c, np.int64)).max())
    assert reached == ONE


@cache
def networks(clip):
    """A GNMT with large weights, and its spec."""
    spec = gnmt(cell=LSTMCell(clip=clip), depths=(3, 2), head=ClippedHead())
    model = spec.build(rngs=nnx.Rngs(0))
    graphdef, params, buffers = split(model)
    params = jax.tree.map(lambda leaf: 20.0 * leaf, params)
    return spec, merge(graphdef, params, buffers)


def logits(model, inputs, **more):
    inputs = jax.tree.map(jnp.asarray, inputs)
    graphdef, params, buffers = split(model)
    call = tiny.jit(lambda p, b, inputs: merge(graphdef, p, b)(inputs, **more))
    return call(params, buffers, inputs)


def test_a_network_trained_in_bounds_survives_and_one_that_was_not_does_not():
    inputs = pairs()
    real = inputs.segments > 0
    gaps = {}
    for name, clip in (("bound", ConstantClip(0.5)), ("free", None)):
        spec, model = networks(clip)
        small = quantized(spec, model, delta=None if clip else 0.5)
        whole, rounded = (np.asarray(logits(one, inputs).logits)[real] for one in (model, small))
        gaps[name] = float(np.abs(rounded - whole).max() / np.abs(whole).max())
    assert 0 < gaps["bound"] < 0.05
    assert gaps["free"] > 3 * gaps["bound"]


def test_states_stay_in_their_bounds_and_weights_are_int8():
    spec, model = networks(ConstantClip(0.5))
    small = quantized(spec, model)
    taps = logits(small, pairs(), tap=Tap(save=r".*(lstm.c|resid_post)")).taps
    for half in ("encoder", "decoder"):
        assert np.abs(taps[f"{half}.lstm.c"].astype(jnp.int32)).max() <= ONE
        assert max(np.abs(z).max() for z in jax.tree.leaves(taps[f"{half}.resid_post"])) <= np.float32(0.5)
    _, params, buffers = split(small)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}
    names = {path[-1].key for path, leaf in jax.tree_util.tree_leaves_with_path(buffers) if leaf.dtype == jnp.int8}
    assert names == {"x", "h", "context", "kernel"}


def test_the_quantised_network_decodes_with_a_cache():
    spec, model = networks(ConstantClip(0.5))
    small = quantized(spec, model)
    inputs = jax.tree.map(jnp.asarray, dataclasses.replace(pairs(), segments=None))
    whole = np.asarray(logits(small, inputs).logits)
    call = tiny.jit(lambda inputs, cache: small(inputs, cache=cache))
    out = call(Inputs(tokens=inputs.tokens[:, :3], source=inputs.source), small.init_cache(3, 5))
    np.testing.assert_allclose(out.logits, whole[:, :3], atol=1e-4)
    for t in (3, 4):
        out = call(Inputs(tokens=inputs.tokens[:, t : t + 1]), out.cache)
        np.testing.assert_allclose(out.logits[:, 0], whole[:, t], atol=1e-4)


def test_the_bound_is_the_one_that_training_came_to():
    spec, model = networks(AnnealedClip(start=8.0, end=1.0, steps=10))
    graphdef, params, buffers = split(model)
    trained = merge(graphdef, params, jax.tree.map(lambda leaf: leaf + 5, buffers))
    bounds = split(quantized(spec, trained))[2]
    assert float(bounds["decoder"]["first"]["cell"]["bound"]) == pytest.approx(4.5)
    np.testing.assert_allclose(bounds["encoder"]["layers"]["sections"]["1"]["lstm"]["cell"]["bound"], [4.5])


def test_a_network_without_bounds_is_told():
    spec, model = networks(None)
    with pytest.raises(SpecError, match=r"encoder.cell.clip=None: must be a Clip, or give delta"):
        quantized(spec, model)

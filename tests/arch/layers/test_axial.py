"""Positions of two axes: scores depend on differences of coordinates along each axis, and one axis is plain rotary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.axial import AxialRotary
from arch.layers.positions import Rotary, RotaryLayer
from arch.models.base import Inputs
from arch.models.encoder import Encoder
from arch.params import merge
from arch.spec import SpecError, UserError
from tests.arch import tiny

B, T, N, K = 1, 6, 2, 8
GRID = np.stack(np.meshgrid(np.arange(2), np.arange(3), indexing="ij"), -1).reshape(1, T, 2).astype(np.int32)


def layer(axes):
    return AxialRotary(axes).build(K, N, None)


def heads(seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((B, T, N, K)), jnp.float32)


def test_one_axis_is_rotary():
    places = np.array([[0, 3, 1, 7, 2, 9]], np.int32)
    x = heads(0)
    tiny.close(layer(1).rotate(x, places[..., None]), RotaryLayer(100.0, K).rotate(x, places), 1e-6, 1e-6)


def test_each_axis_turns_its_own_half():
    x = heads(0)
    turned = layer(2).rotate(x, GRID)
    for axis, half in ((0, slice(0, K // 2)), (1, slice(K // 2, K))):
        alone = RotaryLayer(100.0, K // 2).rotate(x[..., half], GRID[..., axis])
        tiny.close(turned[..., half], alone, 1e-6, 1e-6)


def test_scores_depend_on_differences_alone():
    q, k = heads(1), heads(2)
    scores = lambda shift: jnp.einsum(  # noqa: E731
        "btnk,bsnk->bnts", layer(2).rotate(q, GRID + shift), layer(2).rotate(k, GRID + shift)
    )
    tiny.close(scores(np.array([5, 11], np.int32)), scores(np.array([0, 0], np.int32)), 1e-4, 1e-4)
    assert np.abs(scores(GRID * 0) - scores(GRID)).max() > 0.1


def test_a_model_reads_coordinates_and_says_when_there_are_none():
    mixer = Attention(heads=N, head_dim=K, mask=Bidirectional(), position=AxialRotary(2))
    spec = Encoder(vocab=tiny.V, width=16, depth=1, block=PreNorm(mixer=mixer))
    graphdef, params = tiny.draw(spec)
    tokens = jnp.asarray(tiny.tokens(B, T))
    run = tiny.jit(lambda params, places: merge(graphdef, params, {})(Inputs(tokens, coordinates=places)).logits)
    one, other = run(params, jnp.asarray(GRID)), run(params, jnp.asarray(GRID[..., ::-1]))
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(
        UserError, match=r"AxialRotary\(axes=2\) needs Inputs\(coordinates=...\) of 2 axes; it got none"
    ):
        jax.eval_shape(lambda params: merge(graphdef, params, {})(Inputs(tokens)).logits, params)


def test_a_head_that_does_not_split_is_refused():
    with pytest.raises(SpecError, match="must split the 6 dimensions of a head into 2 even parts"):
        AxialRotary(2).build(6, 1, None)
    assert Rotary().build(6, 1, None).rotated == 6

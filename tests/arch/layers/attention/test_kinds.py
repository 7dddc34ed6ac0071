"""What holds for every attention kind: heads, padding, documents, caches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.layers.attention.heads import HeadMixer
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.softmax import Attention
from arch.layers.attention.synthesizer import RandomSynthesizer
from arch.layers.caches import Room
from arch.params import metadata
from arch.spec import SpecError
from tests.arch import tiny
from tests.arch.layers.attention.kinds import KINDS, B, D, K, N, T, function, layer, padded, rows, run

WHOLE_ROWS = [name for name, kind in KINDS.items() if isinstance(kind, HeadMixer) and "causal" not in name]
LENGTHS = (T, 7, 4)


@pytest.mark.parametrize("name", KINDS)
def test_padding_has_no_influence(name):
    """Neither what stands in it nor how much of it there is; and it sends no gradient back."""
    spec, x, segments = KINDS[name], rows(), padded(LENGTHS)
    other = np.where(segments[:, :, None] > 0, x, 5.0 + rows(1))
    y, _ = run(spec, x, segments)
    moved, _ = run(spec, other, segments)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(y[row, :length], moved[row, :length])
        alone, _ = run(spec, x[row : row + 1, :length])
        tiny.close(alone[0], y[row, :length])

    params = layer(spec)[1]

    def text(x):
        y, _ = function(spec)(params, x, jnp.asarray(segments), None)
        return jnp.sum(jnp.where(jnp.asarray(segments)[:, :, None] > 0, y, 0.0))

    gradient = np.asarray(tiny.jit(jax.grad(text))(jnp.asarray(x)))
    assert np.isfinite(gradient).all()
    assert (gradient[segments == 0] == 0).all()
    assert (gradient[segments == 1] != 0).any()


@pytest.mark.parametrize("name", KINDS)
def test_a_row_of_padding_is_finite_and_so_is_its_gradient(name):
    segments = jnp.asarray(padded((T, 0, 3)))

    def total(x, params):
        return jnp.sum(function(KINDS[name])(params, x, segments, None)[0])

    grads = tiny.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(rows()), layer(KINDS[name])[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", KINDS)
def test_heads_add_up(name):
    """Their order does not matter, and a model whose last heads write nothing is the narrower model."""
    spec = KINDS[name]
    x, segments = rows(), padded(LENGTHS)
    y, taps = run(spec, x, segments)
    assert taps["attn.z"].shape == (B, T, N, K)
    _, params = layer(spec)
    order = np.array([2, 0, 3, 1])
    shuffled = jax.tree_util.tree_map_with_path(lambda path, leaf: by_head(path, leaf, order), params)
    tiny.close(run(spec, x, segments, shuffled)[0], y)

    zeroed = {**params, "o": {"kernel": params["o"]["kernel"].at[2:].set(0.0)}}
    narrow = jax.tree_util.tree_map_with_path(lambda path, leaf: by_head(path, leaf, np.arange(2)), params)
    few = dataclasses.replace(spec, heads=2)
    tiny.close(run(few, x, segments, narrow)[0], run(spec, x, segments, zeroed)[0])


def by_head(path, leaf, chosen):
    """The parameter with only the `chosen` heads, in their order. The head axis is the one of size N."""
    del path
    if N not in leaf.shape or leaf.shape == (T, 4):  # the mixtures of Linformer belong to no head
        return leaf
    return jnp.take(leaf, chosen, axis=leaf.shape.index(N))


@pytest.mark.parametrize("name", KINDS)
def test_a_wide_sublayer_is_several_narrow_ones_in_parallel(name):
    """N heads that read one norm are N / 2 sublayers of two heads that share it, whatever the kind."""
    wide, x, segments = KINDS[name], rows(), padded(LENGTHS)
    narrow, (_, params) = dataclasses.replace(wide, heads=2), layer(wide)
    total = 0.0
    for first in (0, 2):
        heads = np.array([first, first + 1])
        part = jax.tree_util.tree_map_with_path(lambda path, leaf, heads=heads: by_head(path, leaf, heads), params)
        total = total + run(narrow, x, segments, part)[0]
    tiny.close(total, run(wide, x, segments)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_several_documents_in_a_row_are_nan(name):
    segments = np.ones((B, T), np.int32)
    segments[1, 5:] = 2
    y, _ = run(KINDS[name], rows(), segments)
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[2]).all()


@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_cached_decoding_is_refused(name):
    graphdef, params = layer(KINDS[name])
    with pytest.raises(ValueError, match="no cached decoding"):
        nnx.merge(graphdef, params).init_cache(Room(1, 4))


@pytest.mark.parametrize("name", ["linformer", "sinkhorn", "synthesizer", "random synthesizer"])
def test_rows_longer_than_the_part_are_refused(name):
    with pytest.raises(ValueError, match=rf"{T + 1} tokens do not fit \w+\(length={T}\)"):
        run(KINDS[name], rows(length=T + 1))


def test_heads_need_not_divide_the_width_only_if_head_dim_is_given():
    with pytest.raises(SpecError, match="must divide the width 16"):
        layer(LinearAttention(heads=3))
    assert LinearAttention(heads=4).size(D) == 4
    assert LinearAttention(heads=3, head_dim=5).size(D) == 5


def test_parameters_are_named_as_those_of_softmax_attention():
    _, softmax = layer(Attention(heads=N, head_dim=K))
    for name in WHOLE_ROWS:
        _, params = layer(KINDS[name])
        shared = {path: params[path]["kernel"].shape for path in params if path in softmax}
        assert shared == {path: softmax[path]["kernel"].shape for path in shared}
        assert {"v", "o"} <= set(shared)
    for name in ("linear", "sinkhorn"):
        rows = metadata(nnx.merge(*layer(KINDS[name])))
        assert (rows["v.kernel"]["role"], rows["o.kernel"]["role"]) == ("value", "residual")
    assert set(layer(RandomSynthesizer(N, K, length=T))[1]) == {"v", "o", "pattern"}

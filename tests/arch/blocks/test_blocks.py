"""Blocks against their formulas, written out with the block's own sublayers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import BareMixer, Parallel, PostNorm, PreNorm, ReorderedNorm, SandwichNorm
from arch.blocks.base import BlockLayer
from arch.blocks.dropout import DropoutBy
from arch.context import Context, Gates, dropout, named_key
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.layers.init.initializers import Normal
from arch.layers.norms.common import LayerNorm
from arch.params import ParamFactory
from arch.spec import SpecError
from tests.arch import tiny

B, T = 2, 5
POSITIONS = jnp.arange(T)[None]


def pre(x, b, attn, mlp, n):
    h = x + attn(n(b.mixer_norm, x))
    return h + mlp(n(b.feed_forward_norm, h))


def post(x, b, attn, mlp, n):
    h = n(b.mixer_norm, x + attn(x))
    return n(b.feed_forward_norm, h + mlp(h))


def sandwich(x, b, attn, mlp, n):
    h = x + n(b.mixer_out_norm, attn(n(b.mixer_norm, x)))
    return h + n(b.feed_forward_out_norm, mlp(n(b.feed_forward_norm, h)))


def reordered(x, b, attn, mlp, n):
    h = x + n(b.mixer_norm, attn(x))
    return h + n(b.feed_forward_norm, mlp(h))


def parallel(x, b, attn, mlp, n):
    h = n(b.norm, x)
    return x + attn(h) + mlp(h)


def bare(x, b, attn, mlp, n):
    h = x + attn(x)
    return h + mlp(n(b.feed_forward_norm, h))


FORMULAS = [(PreNorm, pre), (BareMixer, bare), (PostNorm, post), (SandwichNorm, sandwich),
            (ReorderedNorm, reordered), (Parallel, parallel)]  # fmt: skip


def layer_norm(layer, x):
    """LayerNorm in numpy, float64 (arXiv 1607.06450, eq. 3)."""
    x = np.asarray(x, np.float64)
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return jnp.asarray(y * np.asarray(layer.gain[...]) + np.asarray(layer.bias[...]), jnp.float32)


def block_of(kind, seed=0, **fields):
    """A block with random gains and biases."""
    spec = kind(mixer=Attention(heads=4), norm=LayerNorm(), **fields)

    def build():
        block = spec.build(tiny.D, ParamFactory(jax.random.key(seed), Normal(0.3)))
        return nnx.split(block, nnx.Param)

    graphdef, shapes = nnx.eval_shape(build)
    rng = np.random.default_rng(seed)
    fill = lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape) + (leaf.ndim == 1), jnp.float32)  # noqa: E731
    return nnx.merge(graphdef, jax.tree.map(fill, nnx.to_pure_dict(shapes)))


def context(**fields):
    return Context(POSITIONS, None, POSITIONS, None, **fields)


@pytest.mark.parametrize(("kind", "formula"), FORMULAS, ids=[f.__name__ for _, f in FORMULAS])
def test_formula(kind, formula):
    block, ctx = block_of(kind), context()
    x = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)
    attn = jax.jit(lambda h: block.mixer(h, ctx).x)
    mlp = jax.jit(lambda h: block.feed_forward(h, ctx).x)
    out = tiny.jit(lambda x: block(x, ctx).x)(x)
    tiny.close(out, formula(x, block, attn, mlp, layer_norm))


@pytest.mark.parametrize("kind", [PreNorm, PostNorm, SandwichNorm, Parallel])
def test_without_feed_forward(kind):
    block, ctx = block_of(kind, feed_forward=None), context()
    assert not hasattr(block, "feed_forward")
    assert not hasattr(block, "feed_forward_norm")
    x = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)
    y = {
        PreNorm: lambda: x + block.mixer(layer_norm(block.mixer_norm, x), ctx).x,
        PostNorm: lambda: layer_norm(block.mixer_norm, x + block.mixer(x, ctx).x),
        SandwichNorm: lambda: x + layer_norm(block.mixer_out_norm, block.mixer(layer_norm(block.mixer_norm, x), ctx).x),
        Parallel: lambda: x + block.mixer(layer_norm(block.norm, x), ctx).x,
    }[kind]()
    tiny.close(block(x, ctx).x, y)


@pytest.mark.parametrize("kind", [PreNorm, PostNorm, SandwichNorm, Parallel])
def test_gates_per_position(kind):
    """A closed gate leaves its token's stream as it was; open ones are untouched; halves are means."""
    block = block_of(kind)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)
    run = tiny.jit(lambda gates: block(x, context(gates=gates)).x)
    full, mask = run(Gates()), np.random.default_rng(2).random((B, T)) < 0.5
    tiny.close(run(Gates(block=mask)), np.where(mask[:, :, None], full, x), 1e-6, 1e-6)
    tiny.close(run(Gates(block=np.float32(0.5))), (full + x) / 2)
    closed = run(Gates(mixer=np.array(False), feed_forward=np.array(False)))
    tiny.close(closed, x, 0, 0)
    only = run(Gates(feed_forward=np.array(False)))
    half = run(Gates(mixer=np.float32(0.5), feed_forward=np.array(False)))
    tiny.close(half, (only + x) / 2)
    both = run(Gates(mixer=np.ones((B, T), bool), feed_forward=np.zeros((B, T), np.float32)))
    tiny.close(only, both, 1e-6, 1e-6)
    assert np.abs(only - x).max() > 0.1
    assert np.abs(only - full).max() > 0.1


@pytest.mark.parametrize("kind", [PreNorm, PostNorm, SandwichNorm, Parallel])
def test_dropout_needs_a_key_and_a_rate(kind):
    block, same = block_of(kind, dropout=0.5), block_of(kind)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)
    key = jax.random.key(0)
    run = tiny.jit(
        lambda: (
            block(x, context()).x,
            same(x, context(key=key, training=True)).x,
            block(x, context(key=key, training=True)).x,
        )
    )
    without_key, without_rate, dropped = run()
    np.testing.assert_array_equal(without_key, without_rate)
    assert np.abs(dropped - without_key).max() > 0.1


def test_dropout_by_sublayer():
    mixer_alone, same = block_of(PreNorm, dropout=DropoutBy((("mixer", 0.5),))), block_of(PreNorm)
    feed_forward_alone = block_of(PreNorm, dropout=DropoutBy((("feed_forward", 0.5),)))
    both = block_of(PreNorm, dropout=0.5)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)
    ctx = context(key=jax.random.key(0), training=True)
    shut = {name: ctx.replace(gates=Gates({name: np.array(False)})) for name in ("mixer", "feed_forward")}
    blocks = (mixer_alone, feed_forward_alone, same, both)
    run = tiny.jit(lambda: [[block(x, one).x for block in blocks] for one in (shut["feed_forward"], shut["mixer"])])
    (dropped, kept, plain, whole), (other_kept, other_dropped, other_plain, other_whole) = run()
    np.testing.assert_array_equal(dropped, whole)
    np.testing.assert_array_equal(kept, plain)
    np.testing.assert_array_equal(other_dropped, other_whole)
    np.testing.assert_array_equal(other_kept, other_plain)
    assert np.abs(dropped - plain).max() > 0.1
    assert np.abs(other_dropped - other_plain).max() > 0.1


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: DropoutBy((("mixer", 1.0),)), "DropoutBy.rates=1.0"),
        (lambda: DropoutBy((("mixer", 0.1), ("mixer", 0.2))), "must be named once"),
        (lambda: PreNorm(dropout=DropoutBy((("cross", 0.1),))), "dropout.rates='cross'.*mixer, feed_forward"),
    ],
)
def test_rates_that_cannot_be(make, line):
    with pytest.raises(SpecError, match=line):
        make()


def test_dropout_keeps_the_mean():
    x = jnp.ones((100, 100))
    y = np.asarray(dropout(x, 0.25, jax.random.key(0)))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    assert abs((y == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / y.size)
    assert dropout(x, 0.0, jax.random.key(0)) is x
    assert dropout(x, 0.25, None) is x


def test_sublayers_drop_different_places():
    """The mixer and the feed-forward of a block, each replaced by ones."""
    block = block_of(Parallel, dropout=0.5)
    zeros = jnp.zeros((B, T, tiny.D))
    keys = [named_key(jax.random.key(0), name) for name in ("mixer", "feed_forward")]
    masks = [np.asarray(dropout(zeros + 1, 0.5, key)) == 0 for key in keys]
    y = block(zeros + 1, context(key=jax.random.key(0), training=True, gates=Gates(feed_forward=np.array(False)))).x
    np.testing.assert_array_equal(np.asarray(y) == 1, masks[0])
    assert (masks[0] != masks[1]).any()


def test_a_block_must_say_how_it_writes():
    spec = PreNorm(mixer=Attention(heads=4), feed_forward=GatedMLP())
    with pytest.raises(TypeError, match="BlockLayer must define step or residual"):
        nnx.eval_shape(
            lambda: BlockLayer(spec, tiny.D, ParamFactory(jax.random.key(0), Normal()))(
                jnp.zeros((1, 2, 32)), context()
            )
        )

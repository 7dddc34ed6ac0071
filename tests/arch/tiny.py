"""Tiny models for the tests: quick to compile, with parameters that hide nothing.

`draw` fills the parameters with numpy instead of the initialisers: gains and biases are not 1 and 0, and kernels are
large enough for attention to be far from uniform. A parameter's value depends on its path and shape alone.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.blocks import Block, Parallel, PostNorm, PreNorm, SandwichNorm
from arch.blocks.admin import Admin
from arch.blocks.deep_norm import DeepNorm
from arch.blocks.depth_scaled import ScaledNorm, ScaledResidual, ScaledSublayer
from arch.blocks.learned_scale import LayerScale, SkipInit
from arch.blocks.mix_norm import MixNorm
from arch.cost import abstract
from arch.layers.attention.softmax import Attention
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.positions import ALiBi, Learned, NoPosition, Rotary, Sinusoidal, T5Relative
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.params import metadata
from arch.stacks import LayerSubset, Sequential
from tests.quick import OPTIONS

V, D, N, H = 19, 32, 4, 2
"""Vocabulary, width, query heads and key-value heads of the tiny models."""

jit = partial(jax.jit, compiler_options=OPTIONS)
"""`jax.jit` that compiles in a sixth of the time; the programs run once."""

POSITIONS = {
    "rotary": (Rotary(), NoPosition()),
    "rotary_partial": (Rotary(fraction=0.5, base=100.0), NoPosition()),
    "none": (NoPosition(), NoPosition()),
    "alibi": (ALiBi(), NoPosition()),
    "alibi_model": (NoPosition(), ALiBi(heads=N)),
    "t5": (T5Relative(buckets=8, max_distance=7), NoPosition()),
    "t5_model": (NoPosition(), T5Relative(buckets=8, max_distance=7, heads=N)),
    "learned": (NoPosition(), Learned(length=16)),
    "sinusoidal": (NoPosition(), Sinusoidal()),
}
"""Name -> (position of attention, position of the model)."""

BLOCKS: dict[str, Callable[..., Block]] = {
    "pre": PreNorm,
    "post": PostNorm,
    "sandwich": SandwichNorm,
    "parallel": Parallel,
    "scaled_norm": ScaledNorm,
    "scaled_sublayer": ScaledSublayer,
    "scaled_residual": ScaledResidual,
    "deep": DeepNorm,
    "mix": partial(MixNorm, fraction=0.5),
    "layer_scale": LayerScale,
    "skip_init": SkipInit,
    "admin": Admin,
}


def decoder(
    position="rotary", block="pre", loop="scan", remat="none", depth=2, norm=None, dropout=0.0, kept=None, **attention
):
    """A tiny decoder: grouped heads, gated MLP, RMSNorm. `kept`: (indices, depth) of the model it is cut out of.

    An encoder of the same parts, if its mask sees later tokens.
    """
    in_attention, in_model = POSITIONS[position]
    mixer = Attention(**{"heads": N, "kv_heads": H, "position": in_attention, **attention})
    return (Decoder if mixer.causal else Encoder)(
        vocab=V,
        width=D,
        depth=depth,
        block=BLOCKS[block](mixer=mixer, norm=norm or RMSNorm(), dropout=dropout),
        stack=Sequential(loop=loop, remat=remat, kept=None if kept is None else LayerSubset(*kept)),
        position=in_model,
    )


BIASED = LayerNorm()
"""A norm of nothing is its bias: the hard case for gates."""


@cache
def draw(spec):
    """(graphdef, parameters as a nested dict of numpy arrays) of `spec`; nothing is compiled."""
    model = abstract(spec)
    graphdef, params = nnx.split(model, nnx.Param)
    rows = metadata(model)

    def fill(path, leaf):
        name = ".".join(str(getattr(entry, "key", entry)) for entry in path)
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(leaf.shape).astype(np.float32)
        start = {"constant(1)": 1.0, "constant(0)": 0.0}.get(rows[name]["initializer"], 0.0)
        scale = {"embedding": 1.0, "position": 1.0}.get(rows[name]["role"], 0.3)
        return np.float32(start) + np.float32(scale) * noise

    return graphdef, jax.tree_util.tree_map_with_path(fill, nnx.to_pure_dict(params))


FIELDS = {field.name for field in dataclasses.fields(Inputs)}


def known(x):
    """A numpy array as one of jax; anything else as it is."""
    return jnp.asarray(x) if isinstance(x, np.ndarray) else x


def forward(spec):
    """`fn(params, read, **inputs and arguments) -> Output` of `spec`, training if there is a key; and its parameters.

    `read` is what the model reads first, tokens or images; other fields of `Inputs` and arguments of the call are given
    by name.
    """
    graphdef, params = draw(spec)

    def fn(params, read, **told):
        params, read, told = jax.tree.map(known, (params, read, told))
        model = nnx.merge(graphdef, params)
        first = "images" if "images" in model.reads else "tokens"
        fields = {name: told.pop(name) for name in FIELDS & told.keys()}
        return model(Inputs(**{first: read}, **fields), training="key" in told, **told)

    return fn, params


def empty_cache(spec, batch, length, dtype=jnp.float32):
    """An empty cache of `spec`; for use inside a jitted function."""
    graphdef, params = draw(spec)
    return nnx.merge(graphdef, params).init_cache(batch, length, dtype)


def in_pieces(spec, tokens, cuts):
    """`fn(params) -> (logits, cache)` of `spec` on tokens that are fed up to each of `cuts` in turn, with a cache."""
    forward_, _ = forward(spec)

    def fn(params):
        cache, logits = empty_cache(spec, *tokens.shape), []
        for first, last in itertools.pairwise((0, *cuts)):
            out = forward_(params, tokens[:, first:last], cache=cache)
            cache = out.cache
            logits.append(out.logits)
        return jnp.concatenate(logits, axis=1), cache

    return fn


def tokens(batch, length, seed=0):
    """Random token ids, int32 [batch, length]."""
    return np.random.default_rng(seed).integers(0, V, (batch, length), dtype=np.int32)


def close(actual, expected, rtol=2e-5, atol=2e-5):
    """Asserts that two trees of arrays have the same paths and nearly the same values."""
    left, right = jax.tree_util.tree_leaves_with_path(actual), jax.tree_util.tree_leaves_with_path(expected)
    assert [path for path, _ in left] == [path for path, _ in right]
    for (path, a), (_, b) in zip(left, right, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, path
        assert np.isfinite(b).all(), path
        scale = max(1.0, float(np.abs(b).max(initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * scale, err_msg=jax.tree_util.keystr(path))

"""One of each attention kind, and a layer of it on random rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.context import Context
from arch.layers.attention.feature_maps import PositiveOrthogonal
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.linformer import Linformer
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow
from arch.layers.attention.sinkhorn import Sinkhorn
from arch.layers.attention.softmax import Attention
from arch.layers.attention.sparse_masks import BigBird, Longformer, Strided
from arch.layers.attention.synthesizer import DenseSynthesizer, RandomSynthesizer
from arch.layers.init.initializers import Normal
from arch.layers.positions import NoPosition
from arch.params import ParamFactory
from arch.taps import Tap
from tests.arch import tiny

B, T, D, N, K = 3, 12, 16, 4, 6
"""Head widths that are not width // heads."""


def softmax(mask, **fields):
    return Attention(**{"heads": N, "head_dim": K, "position": NoPosition(), "mask": mask, **fields})


KINDS = {
    "softmax": softmax(Bidirectional()),
    "local": softmax(LocalWindow(2)),
    "bigbird": softmax(BigBird(block=2, random=1, length=T)),
    "longformer": softmax(Longformer(radius=1, global_tokens=1)),
    "sparse": softmax(Strided(3)),
    "linformer": Linformer(N, K, length=T, rank=4),
    "performer": LinearAttention(N, K, features=PositiveOrthogonal(16)),
    "linear": LinearAttention(N, K),
    "linear causal": LinearAttention(N, K, mask=Causal()),
    "performer causal": LinearAttention(N, K, mask=Causal(), features=PositiveOrthogonal(16)),
    "sinkhorn": Sinkhorn(N, K, length=T, block=3),
    "synthesizer": DenseSynthesizer(N, K, length=T),
    "random synthesizer": RandomSynthesizer(N, K, length=T),
}


def rows(seed=0, length=T, batch=B):
    return np.random.default_rng(seed).standard_normal((batch, length, D)).astype(np.float32)


@functools.cache
def layer(spec, width=D, std=0.4):
    """(graphdef, parameters) of a layer."""
    built = spec.build(width, ParamFactory(jax.random.key(1), Normal(std)))
    graphdef, params = nnx.split(built, nnx.Param)
    return graphdef, nnx.to_pure_dict(params)


def function(spec):
    """`fn(params, x, segments, key) -> (output, taps)` of a layer."""
    graphdef, _ = layer(spec)

    def fn(params, x, segments, key):
        tap = Tap(save=".*").recorder()
        positions = np.arange(x.shape[1], dtype=np.int32)[None]
        ctx = Context(positions, segments, positions, segments, training=True, key=key, tap=tap)
        return nnx.merge(graphdef, params)(x, ctx).x, tap.collect()

    return fn


@functools.cache
def compiled(spec):
    """`function(spec)`, compiled."""
    return tiny.jit(function(spec))


def run(spec, x, segments=None, params=None, key=None):
    """What the layer of `spec` answers, and its taps."""
    params = layer(spec)[1] if params is None else params
    return compiled(spec)(params, jnp.asarray(x), None if segments is None else jnp.asarray(segments), key)


def padded(lengths, length=T):
    """Segments of rows with text of these lengths."""
    return (np.arange(length)[None] < np.array(lengths)[:, None]).astype(np.int32)

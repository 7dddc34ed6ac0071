"""Parts that answer and that remember, for the tests: what a user would write."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.answers import Sum, coupled, mean_over
from arch.context import Context, Result
from arch.cost import abstract
from arch.layers.norms.common import RMSNorm, RMSNormLayer
from arch.layers.sublayer import FeedForward
from arch.params import split


@dataclasses.dataclass(frozen=True)
class Counting(FeedForward):
    """gain * x, and what it saw: a loss, two metrics, and sums for its buffers, of which `count` starts at `start`."""

    start: float = 0.0

    def build(self, width, make):
        return CountingLayer(self, width, make)


class CountingLayer(nnx.Module):
    def __init__(self, spec, width, make):
        self.gain = make.weight("gain", [], [(width, "embed")])
        self.count = make.buffer([], spec.start)
        self.mean = make.buffer([(width, "embed")], np.zeros(width, np.float32), "zeros")

    def __call__(self, x, ctx):
        x = ctx.tap("seen", x)
        self.answer(x, ctx)
        return Result(x * self.gain[...][None, None])

    def answer(self, x, ctx):
        size = mean_over(jnp.square(x))
        ctx.answer(
            self,
            losses={"size": size},
            metrics={"size": size, "peak": coupled(jnp.max(x))},
            statistics={"rows": jnp.float32(x.shape[0] * x.shape[1]), "sum": jnp.sum(x, axis=(0, 1))},
        )

    def advance(self, buffers, sums):
        """The running count of tokens, and their mean."""
        count = buffers["count"] + sums["rows"]
        return {"count": count, "mean": (buffers["mean"] * buffers["count"] + sums["sum"]) / count}


@dataclasses.dataclass(frozen=True)
class TellingNorm(RMSNorm):
    """RMSNorm that reports the mean square of what it reads."""

    def build(self, width, make, axis="embed"):
        return TellingNormLayer(self, width, make, axis)


class TellingNormLayer(RMSNormLayer):
    def __call__(self, x, ctx):
        ctx.answer(self, metrics={"square": mean_over(jnp.square(x))})
        return super().__call__(x, ctx)


def drawn(spec):
    """(graph, random parameters, buffers of zeros) of a model; nothing is compiled."""
    graphdef, params, buffers = split(abstract(spec))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) / 2, leaf.dtype), params)
    return graphdef, params, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), buffers)


def context(**fields):
    places = np.zeros((1, 1), np.int32)
    return Context(places, None, places, None, **fields)


ONE = Sum(jnp.float32(1), jnp.float32(1))

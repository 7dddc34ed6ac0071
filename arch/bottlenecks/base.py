"""Bottlenecks: what vectors have to pass through between the layers of a stack, or at a named site inside each block.

A `Bottleneck` is a spec that builds a part called `bottleneck(x, ctx) -> x` of the same shape. Most are quantisers:
their part is a `Quantizer`, which defines one pure function, `quantize(x, weights, ...) -> Quantized`, and inherits the
call. What it returns beside the values goes to `ctx.answer`; its tap sites are `in` (the vectors before), `codes`
(int32 [..., k]) and, of sparse codes, `amplitudes` [..., k]. An edit of `codes` replaces what was chosen.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from arch.answers import Sum
from arch.context import Context
from arch.params import ParamFactory
from arch.spec import Spec
from arch.taps import Recorder, Tap


@dataclasses.dataclass(frozen=True)
class Bottleneck(Spec, abc.ABC):
    """A part called `bottleneck(x, ctx) -> x` of the same shape; its losses, metrics and statistics go to
    `ctx.answer`."""

    @abc.abstractmethod
    def build(self, width: int, make: ParamFactory) -> Any:
        """The part for vectors of `width`, an `nnx.Module`."""

    def build_at(self, sizes: Sequence[int], make: ParamFactory) -> Any:
        """The part for values [B, T, *sizes] of a site; by default one for the vectors along the last axis."""
        return self.build(sizes[-1], make)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized:
    """What a quantiser makes of vectors [..., N].

    Attributes:
      values: [..., N], what goes on, of the type of the vectors and with the gradient that the quantiser gives them.
      codes: int32 [..., k], which codes each vector became.
      amplitudes: float [..., k], of sparse codes: how much of each; None: codes are all there is.
      losses: name -> what is added to the objective's loss.
      metrics: name -> what is reported.
      statistics: sums over rows that the part's `advance(buffers, sums)` takes; None: it has no buffers.
    """

    values: jax.Array
    codes: jax.Array
    amplitudes: jax.Array | None = None
    losses: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    statistics: Any = None


Fitted = dict[str, dict[str, Any]]
""""params" and "buffers" -> trees of arrays, in the structure of a part's own."""


class Opening(Tap):
    """A tap of a call in which quantisers let vectors through as they came, and return them as their statistics:
    (vectors, weights) by path of the part, stacked over layers as its buffers are."""

    def recorder(self) -> OpenRecorder:
        return OpenRecorder(self, None, {})


class OpenRecorder(Recorder):
    """Of `Opening`: saves and changes nothing."""

    def __call__(self, site: str, x: jax.Array) -> jax.Array:
        return x

    def wants(self, site: str) -> bool:
        return False

    def at(self, layer: Any) -> OpenRecorder:
        return self

    def scope(self, name: str) -> OpenRecorder:
        return self


class Quantizer(nnx.Module, abc.ABC):
    """Base of the parts that quantisers build.

    Attributes:
      summed: losses that are sums over the features of a vector: those of several parts of one add up.
    """

    summed: tuple[str, ...] = ()

    @abc.abstractmethod
    def quantize(
        self,
        x: jax.Array,
        weights: jax.Array | None = None,
        *,
        training: bool = False,
        key: jax.Array | None = None,
        codes: jax.Array | None = None,
        amplitudes: jax.Array | None = None,
    ) -> Quantized:
        """What vectors `x` [..., N] become; pure.

        Args:
          x: the vectors.
          weights: float [...], 0 for vectors that are padding: they are quantised, and count nowhere. None: all count.
          training: whether this is a training step.
          key: of what is random while training; None: nothing is.
          codes, amplitudes: given, they are read in place of those that would be chosen.
        """

    def bits(self, counts: jax.Array | None = None) -> jax.Array:
        """Bits that the codes of one vector take (`bottlenecks.bits`).

        Args:
          counts: how often each code was chosen, in the shape of the part's buffer `counts`: the entropy of that. None:
            the ceiling, all codes equally probable.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how many bits its codes take")

    def fitted(self, x: jax.Array, weights: jax.Array, key: jax.Array, steps: int) -> Fitted:
        """Its parameters and buffers that are made of data, the codes; pure. By default none are.

        Args:
          x: [M, ..., N], vectors that it will be given.
          weights: float [M, ...], 0 for padding.
          key: of what is random.
          steps: of k-means.
        """
        return {"params": {}, "buffers": {}}

    def __call__(self, x: jax.Array, ctx: Context) -> jax.Array:
        x = ctx.tap("in", x)
        weights = weights_of(x, ctx)
        if isinstance(ctx.tap, OpenRecorder):
            ctx.answer(self, statistics=(x, weights))
            return x
        told: dict[str, Any] = {"training": ctx.training, "key": ctx.dropout_key}
        found = self.quantize(x, weights, **told)
        edited = ctx.tap("codes", found.codes), found.amplitudes
        if found.amplitudes is not None:
            edited = edited[0], ctx.tap("amplitudes", found.amplitudes)
        if edited[0] is not found.codes or edited[1] is not found.amplitudes:
            found = self.quantize(x, weights, codes=edited[0], amplitudes=edited[1], **told)
        ctx.answer(self, losses=found.losses, metrics=found.metrics, statistics=found.statistics)
        return found.values


def weights_of(x: jax.Array, ctx: Context) -> jax.Array:
    """1 for vectors of tokens, 0 for padding, float32 [...] of `x` [..., N]."""
    if ctx.segments is None:
        return jnp.ones(x.shape[:-1], jnp.float32)
    there = (ctx.segments > 0).astype(jnp.float32)
    return jnp.broadcast_to(there.reshape(there.shape + (1,) * (x.ndim - 1 - there.ndim)), x.shape[:-1])


def whole(sums: Mapping[str, Sum], count: int, *names: str) -> dict[str, Sum]:
    """Of sums over `count` parts, which are means over the parts, those called `names` (none: all) as sums."""
    chosen = {name: sums[name] for name in names or sums if name in sums}
    return {name: Sum(one.total, one.weight / count, one.coupled) for name, one in chosen.items()}

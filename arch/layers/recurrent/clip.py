"""Bounds on what a recurrence may hold: clipping to +-delta, as 16-bit accumulators need it (arXiv 1609.08144, sec. 6).

The paper's delta falls from 8 to 1 while the model is trained. How far that is, is the count of updates, a buffer: an
evaluation and a later run clip as the last update left it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.params import ParamFactory
from arch.spec import Problem, Spec, above, at_least


@dataclasses.dataclass(frozen=True)
class Clip(Spec, abc.ABC):
    """A bound delta on absolute values."""

    @abc.abstractmethod
    def build(self, make: ParamFactory) -> ClipLayer:
        """A part called `part(ctx) -> delta`, once in each call of the model."""


class ClipLayer(nnx.Module, abc.ABC):
    """A part that returns delta, and while training may note statistics."""

    @abc.abstractmethod
    def __call__(self, ctx: Context) -> Float[Array, ""]:
        """delta, float32."""


@dataclasses.dataclass(frozen=True)
class ConstantClip(Clip):
    """One delta."""

    delta: float = 1.0

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "delta")

    def build(self, make):
        return ConstantClipLayer(self)


class ConstantClipLayer(ClipLayer):
    def __init__(self, spec: ConstantClip):
        self.delta = spec.delta

    def __call__(self, ctx):
        return jnp.asarray(self.delta, jnp.float32)


@dataclasses.dataclass(frozen=True)
class AnnealedClip(Clip):
    """delta falls evenly from `start`, before the first update, to `end`, after `steps` of them, and stays there."""

    start: float = 8.0
    end: float = 1.0
    steps: int = 60_000

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "start", "end")
        yield from at_least(self, 1, "steps")

    def build(self, make):
        return AnnealedClipLayer(self, make)


class AnnealedClipLayer(ClipLayer):
    def __init__(self, spec: AnnealedClip, make: ParamFactory):
        self.start, self.end, self.steps = spec.start, spec.end, spec.steps
        self.updates = make.buffer([], jnp.zeros((), jnp.int32), "constant(0)", role="count")

    def __call__(self, ctx):
        if ctx.training:
            ctx.answer(self, statistics=jnp.ones((), jnp.float32))  # of a step; what it is does not matter
        done = jnp.minimum(self.updates[...].astype(jnp.float32) / self.steps, 1.0)
        return self.start + (self.end - self.start) * done

    def advance(self, buffers: dict[str, jax.Array], sums: jax.Array) -> dict[str, jax.Array]:
        """One more update, however many micro-batches it had."""
        return {"updates": buffers["updates"] + jnp.int32(1)}


def clipped(x: jax.Array, delta: jax.Array | None) -> jax.Array:
    """`x` within +-delta; None: as it is."""
    return x if delta is None else jnp.clip(x, -delta.astype(x.dtype), delta.astype(x.dtype))

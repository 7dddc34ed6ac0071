"""Positions: how tokens learn where they are.

One interface with three hooks, each a no-op unless the kind uses it: `embed` adds to token embeddings (learned,
sinusoidal), `rotate` turns queries and keys (rotary), `bias` is added to attention scores (ALiBi, T5 relative). As
`Attention(position=...)` a kind belongs to each layer; as `Decoder(position=...)` it is built once for all layers.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.context import Context
from arch.layers.computed_once import computed_once
from arch.layers.shapes import Known
from arch.params import ParamFactory
from arch.spec import Problem, Spec, above, at_least, between


class PositionLayer(nnx.Module):
    """The three hooks, doing nothing. `limit`: how many positions there are; None: no bound.

    `reads_coordinates`: whether `places` are those of several axes.
    """

    limit: int | None = None
    reads_coordinates: bool = False

    def places(self, ctx: Context) -> Known:
        """Where tokens are, as `embed` and `rotate` take it: [P, T] positions, or coordinates of several axes."""
        return ctx.positions

    def embed(self, x: Float[Array, "B T D"], positions: Int[Known, "P T"]) -> Float[Array, "B T D"]:
        """`x` with positions added; P is 1 or B."""
        return x

    def rotate(self, x: Float[Array, "B T N K"], positions: Int[Known, "P T"]) -> Float[Array, "B T N K"]:
        """Queries or keys, turned by their positions."""
        return x

    def bias(self, query: Int[Known, "#B T"], key: Int[Known, "#B S"]) -> Float[Array, "#B N T S"] | None:
        """What is added to the attention scores; None: nothing."""
        return None


@dataclasses.dataclass(frozen=True)
class Position(Spec, abc.ABC):
    """A way of telling positions. `in_model` and `in_attention` say where a kind means something."""

    in_model: ClassVar[bool] = True
    in_attention: ClassVar[bool] = True

    @abc.abstractmethod
    def build(self, width: int, heads: int | None, make: ParamFactory) -> PositionLayer:
        """The part for vectors of `width` (model width, or head width inside attention) and `heads`, if known."""


@dataclasses.dataclass(frozen=True)
class NoPosition(Position):
    """No position information (NoPE, arXiv 2305.19466)."""

    def build(self, width, heads, make):
        return PositionLayer()


@dataclasses.dataclass(frozen=True)
class Rotary(Position):
    """Rotary position embedding (arXiv 2104.09864, eq. 34), half-split pairs (i, i + K/2) as in Llama checkpoints.

    `base` is theta; `fraction` of each head is rotated, the rest passes (GPT-NeoX, arXiv 2204.06745).
    """

    base: float = 10_000.0
    fraction: float = 1.0
    in_model: ClassVar[bool] = False

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 1, "base")
        yield from above(self, 0, "fraction")
        yield from between(self, 0, 1, "fraction")

    def build(self, width, heads, make):
        rotated = int(width * self.fraction)
        if rotated < 2 or rotated % 2:
            raise self.invalid("fraction", f"must rotate an even number of the {width} dimensions of a head")
        return RotaryLayer(self.base, rotated)


class RotaryLayer(PositionLayer):
    def __init__(self, base: float, rotated: int):
        self.base = base
        self.rotated = rotated

    def rotate(self, x, positions):
        half = self.rotated // 2
        cos, sin = (table.astype(x.dtype)[:, :, None] for table in self.tables(positions))
        first, second, rest = jnp.split(x, [half, self.rotated], axis=-1)
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)

    def tables(self, positions: Int[Known, "P T"]) -> tuple[jax.Array, jax.Array]:
        """Cosines and sines [P, T, R / 2], taken once.

        Positions known while tracing give constants; others are computed in the step, on CPUs by `computed_once`.
        """
        half = self.rotated // 2
        wavelengths = self.base ** (np.arange(half, dtype=np.float32) / half)

        def waves(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
            angle = positions[:, :, None].astype(jnp.float32) / wavelengths[None, None]
            return jnp.cos(angle), jnp.sin(angle)

        if isinstance(positions, np.ndarray):
            with jax.ensure_compile_time_eval():
                return waves(jnp.asarray(positions))
        return computed_once(waves, positions)


@dataclasses.dataclass(frozen=True)
class Learned(Position):
    """A learned vector for each of `length` positions, added to the token embedding (GPT-2). A model-level part."""

    length: int = 1024
    in_attention: ClassVar[bool] = False

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "length")

    def build(self, width, heads, make):
        return LearnedLayer(self, width, make)


class LearnedLayer(PositionLayer):
    def __init__(self, spec: Learned, width: int, make: ParamFactory):
        self.limit = spec.length
        self.table = make.weight("table", [(spec.length, None)], [(width, "embed")], role="embedding")

    def embed(self, x, positions):
        # A position past the table would be clamped in silence; NaN is loud.
        return x + self.table[...].astype(x.dtype).at[positions].get(mode="fill", fill_value=jnp.nan)


@dataclasses.dataclass(frozen=True)
class Sinusoidal(Position):
    """Fixed sines and cosines added to the token embedding (arXiv 1706.03762, section 3.5): even dimensions hold
    sin(p / base^(2i/D)), odd ones the cosine. A model-level part."""

    base: float = 10_000.0
    in_attention: ClassVar[bool] = False

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 1, "base")

    def build(self, width, heads, make):
        if width % 2:
            raise self.invalid("base", f"sinusoidal positions need an even model width, not {width}")
        return SinusoidalLayer(self.base)


class SinusoidalLayer(PositionLayer):
    def __init__(self, base: float):
        self.base = base

    def embed(self, x, positions):
        half = x.shape[-1] // 2
        inverse_wavelength = self.base ** (-jnp.arange(half, dtype=jnp.float32) / half)
        angle = positions[:, :, None].astype(jnp.float32) * inverse_wavelength[None, None]
        waves = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        return x + waves.reshape(*waves.shape[:-2], -1).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class ALiBi(Position):
    """Attention with linear biases (arXiv 2108.12409): score - slope_n * distance, slopes 2^(-8 n / N) for n = 1..N.

    For N not a power of two the paper's code takes the slopes of the power below, then every other slope of the
    power above. Distance is |query - key|, which is the paper's under a causal mask and its symmetric form without one.
    `heads` is needed only where no attention tells it.
    """

    heads: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads")

    def build(self, width, heads, make):
        return ALiBiLayer(_heads(self, heads))


def alibi_slopes(heads: int) -> np.ndarray:
    """The slopes of `heads` heads, float32 [N], largest first within each power-of-two series."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    extra = 2.0 ** (-8.0 * np.arange(1, 2 * power + 1, 2) / (2 * power))
    return np.concatenate([slopes, extra])[:heads].astype(np.float32)


class ALiBiLayer(PositionLayer):
    def __init__(self, heads: int):
        self.heads = heads

    def bias(self, query, key):
        distance = jnp.abs(query[:, :, None] - key[:, None, :]).astype(jnp.float32)
        return -alibi_slopes(self.heads)[None, :, None, None] * distance[:, None]


@dataclasses.dataclass(frozen=True)
class T5Relative(Position):
    """Learned bias by bucketed distance (arXiv 1910.10683, section 2.1): half the buckets exact, half logarithmic up to
    `max_distance`. T5 shares one table among its layers: `Decoder(position=T5Relative())`; inside `Attention` each
    layer has its own. `heads` is needed only where no attention tells it. `bidirectional` gives past and future half
    of the buckets each.
    """

    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False
    heads: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads")
        exact = self.buckets // (4 if self.bidirectional else 2)
        if exact < 1 or self.buckets % 2:
            yield Problem("buckets", self.buckets, "must be even and at least " + ("4" if self.bidirectional else "2"))
        elif self.max_distance <= exact:
            yield Problem("max_distance", self.max_distance, f"must be greater than the {exact} exact buckets")

    def build(self, width, heads, make):
        return T5RelativeLayer(self, _heads(self, heads), make)


class T5RelativeLayer(PositionLayer):
    def __init__(self, spec: T5Relative, heads: int, make: ParamFactory):
        self.spec = spec
        self.table = make.weight("table", [(spec.buckets, None)], [(heads, "heads")], role="position")

    def bucket(self, relative: Int[Known, "..."]) -> Int[Known, "..."]:
        """The bucket of key position minus query position."""
        buckets, offset = self.spec.buckets, jnp.zeros_like(relative)
        if self.spec.bidirectional:
            buckets //= 2
            offset = jnp.where(relative > 0, buckets, 0)
            distance = jnp.abs(relative)
        else:
            distance = jnp.maximum(-relative, 0)
        exact = buckets // 2
        ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / math.log(self.spec.max_distance / exact)
        coarse = jnp.minimum(exact + (ratio * (buckets - exact)).astype(jnp.int32), buckets - 1)
        return offset + jnp.where(distance < exact, distance, coarse)

    def bias(self, query, key):
        buckets = self.bucket(key[:, None, :] - query[:, :, None])
        return jnp.moveaxis(self.table[...].astype(jnp.float32)[buckets], -1, 1)


def _heads(spec: ALiBi | T5Relative, heads: int | None) -> int:
    """The number of heads: the spec's own, or the attention's; they must not differ."""
    if spec.heads is None and heads is None:
        raise spec.invalid("heads", "must be given where no attention tells it")
    if spec.heads is not None and heads is not None and spec.heads != heads:
        raise spec.invalid("heads", f"must be {heads}, the heads of the attention, or None")
    return spec.heads or heads or 1

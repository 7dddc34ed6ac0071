"""Initialisers as parts: how each weight of a model starts, by its role and place in depth.

`Normal` and `TruncatedNormal` are absolute, `FanIn` follows the width. The others wrap one of them and change only
the weights that write into the residual stream (role "residual"): `ScaledInit` by 1/sqrt(2L) (GPT-2, Megatron),
`DepthScaledInit` by 1/sqrt(2l) with l = 1..L (arXiv 1908.11365), `ZeroOutput` to zero.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.spec import Problem, Spec, above

ROLES = ("embedding", "position", "linear", "value", "feed_forward", "residual", "head", "transform")


@dataclasses.dataclass(frozen=True)
class Initializer(Spec, abc.ABC):
    """Draws float32 weights of any shape."""

    @abc.abstractmethod
    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], *, role: str, fan_in: int, depth: int, layer: int | jax.Array
    ) -> jax.Array:
        """Weights of `shape` for `role` (one of ROLES) in layer `layer` (0-based) of `depth`."""

    def describe(self, role: str) -> str:
        """What the parameter table shows for a weight of this role."""
        values = ", ".join(f"{getattr(self, field.name)}" for field in dataclasses.fields(self))
        return f"{type(self).__name__}({values})"


@dataclasses.dataclass(frozen=True)
class Normal(Initializer):
    """N(0, std^2), whatever the role."""

    std: float = 0.02

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "std")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return self.std * jax.random.normal(key, shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """N(0, std^2) cut at `cut` standard deviations; `std` is that of the normal before the cut."""

    std: float = 0.02
    cut: float = 3.0

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "std", "cut")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return self.std * jax.random.truncated_normal(key, -self.cut, self.cut, shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class FanIn(Initializer):
    """N(0, gain^2 / fan_in) (LeCun). Embeddings count a fan-in of 1, so their std is `gain`."""

    gain: float = 1.0

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "gain")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        fan_in = 1 if role in ("embedding", "position") else fan_in
        return self.gain / fan_in**0.5 * jax.random.normal(key, shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class ResidualRule(Initializer, abc.ABC):
    """Base of the rules that change only the weights writing into the residual stream of `base`."""

    base: Initializer = Normal()

    @abc.abstractmethod
    def factor(self, depth: int, layer: int | jax.Array) -> float | jax.Array:
        """What the residual weights of 0-based `layer` in `depth` layers are multiplied by."""

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        value = self.base(key, shape, role=role, fan_in=fan_in, depth=depth, layer=layer)
        return value * self.factor(depth, layer) if role == "residual" else value

    def describe(self, role: str) -> str:
        base = self.base.describe(role)
        return f"{type(self).__name__}({base})" if role == "residual" else base


@dataclasses.dataclass(frozen=True)
class ScaledInit(ResidualRule):
    """Residual writes start smaller by 1/sqrt(2L): two writes a layer keep the variance of the stream."""

    def factor(self, depth, layer):
        return (2 * depth) ** -0.5


@dataclasses.dataclass(frozen=True)
class DepthScaledInit(ResidualRule):
    """Residual writes of layer l = 1..L start smaller by 1/sqrt(2l) (arXiv 1908.11365, eq. 9 with alpha = 1)."""

    def factor(self, depth, layer):
        return (2.0 * (jnp.asarray(layer, jnp.float32) + 1.0)) ** -0.5


@dataclasses.dataclass(frozen=True)
class ZeroOutput(ResidualRule):
    """Residual writes start at zero: every block is the identity at step 0."""

    def factor(self, depth, layer):
        return 0.0

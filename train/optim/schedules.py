"""Learning-rate schedules: multipliers in [0, 1] of the optimiser's learning rate.

A schedule never holds the peak, so the learning rate of a run is one number that a sweep or an ensemble can vary.
`build(steps)` gives a function of the update's index, 0 for the first update and `steps - 1` for the last:

    warm-up of w steps    (index + 1) / w    so that update w - 1 is the first at the peak and none is wasted at zero
    decay                 1 at its first index, exactly `final` at the last update

Lengths are an `int`, in steps, or a `float` below 1, a fraction of the run.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp

from arch.spec import Problem, Spec, at_least, between, one_of

Length = int | float
Multiplier = Callable[[jax.typing.ArrayLike], jax.Array]
Shape = Literal["linear", "cosine", "sqrt"]

FALLEN: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda u: u,
    "cosine": lambda u: 0.5 - 0.5 * jnp.cos(jnp.pi * u),
    "sqrt": jnp.sqrt,
}
"""Shape -> how far a decay has come, as a function of the fraction of its length."""


def length_problems(spec: Spec, *fields: str) -> Iterator[Problem]:
    """Problems of fields that are lengths: negative, or floats that are no fraction."""
    for field in fields:
        value = getattr(spec, field)
        if isinstance(value, float) and not 0 <= value < 1:
            yield Problem(field, value, "a float is a fraction of the run, from 0 to below 1; write an int for steps")
        elif not isinstance(value, float) and not value >= 0:
            yield Problem(field, value, "must be at least 0 steps")


def in_steps(length: Length, steps: int) -> int:
    """A length in steps: an int as it is, a fraction of `steps` rounded to the nearest."""
    return round(length * steps) if isinstance(length, float) else length


@dataclasses.dataclass(frozen=True)
class Schedule(Spec, abc.ABC):
    """Base of the schedules. `warmup` is a linear rise to the peak, in steps (int) or a fraction of the run (float)."""

    warmup: Length = 0

    def problems(self) -> Iterator[Problem]:
        yield from length_problems(self, "warmup")

    def build(self, steps: int) -> Multiplier:
        """The multiplier of update 0 .. steps - 1: int scalar -> float32 scalar.

        Raises `SpecError` for a warm-up, or a warm-up and decay, longer than the run.
        """
        warmup = in_steps(self.warmup, steps)
        if warmup > steps:
            raise self.invalid("warmup", f"must not be longer than the run of {steps} steps")
        peak = max(warmup, 1) - 1
        after = self.after_warmup(peak, steps)

        def multiplier(index: jax.typing.ArrayLike) -> jax.Array:
            at = jnp.asarray(index).astype(jnp.float32)
            return jnp.where(at < peak, (at + 1.0) / max(warmup, 1), after(at))

        return multiplier

    @abc.abstractmethod
    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        """The multiplier from index `peak`, the first at 1, to index steps - 1, as a function of a float32 index."""


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The peak throughout, after the warm-up."""

    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        return jnp.ones_like


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the peak to `final` (SGDR without restarts, arXiv:1608.03983, eq. 5)."""

    final: float = 0.1

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from between(self, 0, 1, "final")

    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        return _decay_over_the_rest(self, "cosine", self.final, peak, steps)


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from the peak to `final`; to zero by default (arXiv:2502.15938)."""

    final: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from between(self, 0, 1, "final")

    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        return _decay_over_the_rest(self, "linear", self.final, peak, steps)


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """The peak held, then a decay over the last `decay` of the run (MiniCPM, arXiv:2404.06395)."""

    decay: Length = 0.2
    shape: Shape = "linear"
    final: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from length_problems(self, "decay")
        yield from one_of(self, "shape", FALLEN)
        yield from between(self, 0, 1, "final")

    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        return _decay_at_the_end(self, self.decay, self.shape, self.final, peak, steps)


@dataclasses.dataclass(frozen=True)
class OneMinusSqrt(Schedule):
    """The peak held, then 1 - sqrt(u) over the last `decay` of the run (arXiv:2405.18392, eq. 1)."""

    decay: Length = 0.2

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from length_problems(self, "decay")

    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        return _decay_at_the_end(self, self.decay, "sqrt", 0.0, peak, steps)


@dataclasses.dataclass(frozen=True)
class InverseSqrt(Schedule):
    """sqrt(t / index) after the warm-up, with no end in sight (arXiv:1706.03762, eq. 3); `timescale` t in steps.

    A `timescale` of None takes the warm-up's length, as the paper does.
    """

    timescale: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "timescale")

    def after_warmup(self, peak: int, steps: int) -> Callable[[jax.Array], jax.Array]:
        timescale = self.timescale or peak + 1
        return lambda at: jnp.sqrt(timescale / (timescale + jnp.maximum(at - peak, 0.0)))


def _decay_over_the_rest(
    spec: Schedule, shape: str, final: float, peak: int, steps: int
) -> Callable[[jax.Array], jax.Array]:
    if 0 < peak == steps - 1:
        raise spec.invalid("warmup", f"must leave at least one of the {steps} steps for the decay")
    return _decay(shape, final, peak, steps - 1)


def _decay_at_the_end(
    spec: Schedule, decay: Length, shape: str, final: float, peak: int, steps: int
) -> Callable[[jax.Array], jax.Array]:
    first = steps - 1 - in_steps(decay, steps)
    if first < peak:
        raise spec.invalid("decay", f"must fit, after a warm-up of {peak + 1} steps, into the run of {steps} steps")
    return _decay(shape, final, first, steps - 1)


def _decay(shape: str, final: float, first: int, last: int) -> Callable[[jax.Array], jax.Array]:
    """1 up to index `first`, then down to exactly `final` at index `last`."""

    def value(at: jax.Array) -> jax.Array:
        left = 1.0 - FALLEN[shape](jnp.clip((at - first) / max(last - first, 1), 0.0, 1.0))
        return left + (1.0 - left) * final

    return value

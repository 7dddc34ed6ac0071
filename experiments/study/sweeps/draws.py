"""What the fields of a random sweep are drawn from."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from arch.spec import Problem, Spec

Value = str | int | float | bool | None
"""Of a field: a number, or text as `--config.PATH=VALUE` has it."""

DIGITS = 6
"""Significant digits of a number that is drawn."""


@dataclasses.dataclass(frozen=True)
class Distribution(Spec, abc.ABC):
    """What a field of a `Sample` is drawn from."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> Value:
        """One value."""


@dataclasses.dataclass(frozen=True)
class Uniform(Distribution):
    """Evenly from [low, high], rounded to 6 significant digits."""

    low: float
    high: float

    def problems(self) -> Iterator[Problem]:
        yield from _range_problems(self)

    def draw(self, rng: np.random.Generator) -> Value:
        return _rounded(rng.uniform(self.low, self.high), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class LogUniform(Distribution):
    """The logarithm evenly, from [low, high], rounded to 6 significant digits."""

    low: float
    high: float

    def problems(self) -> Iterator[Problem]:
        if self.low <= 0:
            yield Problem("low", self.low, "must be greater than 0")
        yield from _range_problems(self)

    def draw(self, rng: np.random.Generator) -> Value:
        return _rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Choice(Distribution):
    """One of the values, each as likely."""

    values: Sequence[Value]

    def problems(self) -> Iterator[Problem]:
        yield from value_problems("values", self.values)

    def draw(self, rng: np.random.Generator) -> Value:
        return self.values[int(rng.integers(len(self.values)))]


def value_problems(field: str, values: Sequence[Value]) -> Iterator[Problem]:
    """Problems of `values` of the field `field`: none, or such as no override has."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        yield Problem(field, values, "must be a sequence of at least one value")
        return
    for value in values:
        if not isinstance(value, (str, int, float, bool, type(None))):
            yield Problem(field, value, "must be a number or text, as --config.PATH=VALUE has it")


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def _range_problems(spec: Any) -> Iterator[Problem]:
    for field in ("low", "high"):
        if not math.isfinite(getattr(spec, field)):
            yield Problem(field, getattr(spec, field), "must be finite")
    if not spec.low < spec.high:
        yield Problem("high", spec.high, f"must be greater than low={spec.low:g}")

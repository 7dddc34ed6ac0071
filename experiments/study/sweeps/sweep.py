"""Sweeps as data: ordered points over named overrides, from a file or from the command line.

    grid({"model.depth": (1, 2, 4, 8), "optimizer.learning_rate": (1e-3, 3e-3)})
    zipped({"model.depth": (1, 4), "model.width": (64, 32)})
    sample({"optimizer.learning_rate": LogUniform(1e-4, 1e-2)}, count=8, seed=0)
    where(grid(...), "depth * width <= 256")
    chain(first, second)        cross(first, second)

A point is a mapping from the path of a field to a value, a number or text as `--config.PATH=VALUE` has it. `arms`
makes of each point the run that it stands for; `sweep_text.from_text` reads what `--sweep` gives.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from arch.spec import Problem, Spec, SpecError, UserError, at_least, to_text
from experiments.config.errors import ConfigError
from experiments.config.overrides import Override, apply
from experiments.study.sweeps import expressions
from experiments.study.sweeps.draws import Choice, Distribution, Value, value_problems
from experiments.study.sweeps.names import point_names, value_text
from train.run import Run

Point = Mapping[str, Value]
MOST = 100_000
"""Points of a sweep; more could not be trained, nor be counted before the user loses patience."""

MISTAKES = 20
"""How many mistakes of a sweep are shown."""

SECONDS = 5.0
"""Seconds between lines on how many points are checked."""


@dataclasses.dataclass(frozen=True)
class Sweep(Spec, abc.ABC):
    """Base of all sweeps."""

    @abc.abstractmethod
    def points(self) -> list[Point]:
        """The points in order, each once."""


@dataclasses.dataclass(frozen=True)
class Grid(Sweep):
    """Every combination of the values; the last field varies fastest."""

    axes: Mapping[str, Sequence[Value]]

    def problems(self) -> Iterator[Problem]:
        wrong = list(_axis_problems(self.axes))
        yield from wrong
        if not wrong:
            yield from _size_problems("axes", math.prod(map(len, self.axes.values())))

    def points(self) -> list[Point]:
        rows = itertools.product(*self.axes.values())
        return _distinct(dict(zip(self.axes, row, strict=True)) for row in rows)


@dataclasses.dataclass(frozen=True)
class Zip(Sweep):
    """The first values together, the second ones together, and so on."""

    axes: Mapping[str, Sequence[Value]]

    def problems(self) -> Iterator[Problem]:
        yield from _axis_problems(self.axes)
        lengths = {path: len(values) for path, values in self.axes.items()}
        if len(set(lengths.values())) > 1:
            yield Problem("axes", lengths, "must have equally many values of each field; these are their numbers")

    def points(self) -> list[Point]:
        return _distinct(dict(zip(self.axes, row, strict=True)) for row in zip(*self.axes.values(), strict=True))


@dataclasses.dataclass(frozen=True)
class Chain(Sweep):
    """The points of one sweep after those of another; what came before is left out."""

    sweeps: tuple[Sweep, ...]

    def points(self) -> list[Point]:
        return _distinct(point for sweep in self.sweeps for point in sweep.points())


@dataclasses.dataclass(frozen=True)
class Cross(Sweep):
    """Every point of one sweep with every point of the others; the last varies fastest."""

    sweeps: tuple[Sweep, ...]

    def points(self) -> list[Point]:
        joined: list[Point] = [{}]
        for sweep in self.sweeps:
            more = sweep.points()
            twice = sorted({path for point in joined for path in point} & {path for point in more for path in point})
            if twice:
                raise UserError(
                    f"sweep: {', '.join(twice)} in two of the sweeps that are crossed; give each field once"
                )
            for problem in _size_problems("sweeps", len(joined) * len(more)):
                raise SpecError(self, [problem])
            joined = [{**left, **right} for left in joined for right in more]
        return _distinct(joined)


@dataclasses.dataclass(frozen=True)
class Sample(Sweep):
    """`count` different points drawn at random.

    Each field has a stream of its own, made from the seed and its path: a larger `count` goes on from the same points,
    and another field does not change the values of those there are.
    """

    axes: Mapping[str, Distribution]
    count: int
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from _path_problems(self.axes)
        yield from at_least(self, 1, "count")
        yield from _size_problems("count", self.count)
        yield from at_least(self, 0, "seed")

    def points(self) -> list[Point]:
        streams = {path: np.random.default_rng([self.seed, zlib.crc32(path.encode())]) for path in self.axes}
        found: dict[Any, Point] = {}
        missed = 0
        while missed < 1000 + 100 * len(found):
            point = {path: self.axes[path].draw(stream) for path, stream in streams.items()}
            missed = missed + 1 if _key(point) in found else 0
            found.setdefault(_key(point), point)
            if len(found) == self.count:
                return list(found.values())
        raise self.invalid("count", f"must be at most {len(found)}, the number of different points that were found")


@dataclasses.dataclass(frozen=True)
class Where(Sweep):
    """The points of a sweep that fulfil a condition: `depth * width <= 512`, or a function of the point.

    In text, fields go by their paths or the last names of them; see `expressions`.
    """

    sweep: Sweep
    condition: str | Callable[[Point], bool]

    def problems(self) -> Iterator[Problem]:
        wrong = expressions.check(self.condition) if isinstance(self.condition, str) else None
        if wrong:
            yield Problem("condition", self.condition, wrong.partition(": ")[2])

    def points(self) -> list[Point]:
        if isinstance(self.condition, str):
            return [point for point in self.sweep.points() if expressions.holds(self.condition, point)]
        return [point for point in self.sweep.points() if self.condition(point)]


def grid(axes: Mapping[str, Sequence[Value]]) -> Grid:
    return Grid({path: tuple(values) for path, values in axes.items()})


def zipped(axes: Mapping[str, Sequence[Value]]) -> Zip:
    return Zip({path: tuple(values) for path, values in axes.items()})


def chain(*sweeps: Sweep) -> Chain:
    return Chain(sweeps)


def cross(*sweeps: Sweep) -> Cross:
    return Cross(sweeps)


def sample(axes: Mapping[str, Distribution | Sequence[Value]], count: int, seed: int = 0) -> Sample:
    """A plain sequence of values is a `Choice`."""
    drawn = {path: one if isinstance(one, Distribution) else Choice(tuple(one)) for path, one in axes.items()}
    return Sample(drawn, count, seed)


def where(sweep: Sweep, condition: str | Callable[[Point], bool]) -> Where:
    return Where(sweep, condition)


def arms(run: Run, sweep: Sweep, note: Callable[[str], None] = print) -> dict[str, Run]:
    """Name -> the run at each point of `sweep`, in order; `depth=4 lr=1e-3` names `run` with these two overrides.

    All points are checked before any is returned; where that takes long, `note` is called with how far it is.

    Raises:
      ConfigError: a line for each mistake, with the points that have it; or no points; or two that are the same run.
    """
    points = sweep.points()
    if not points:
        raise ConfigError(["sweep: has no points; is its condition ever true?"])
    made: dict[str, Run] = {}
    wrong: dict[str, list[str]] = {}
    same: dict[str, str] = {}
    said = time.monotonic()
    for number, (name, point) in enumerate(zip(point_names(points), points, strict=True)):
        if time.monotonic() - said > SECONDS:
            note(f"planning: {number:,} of {len(points):,} arms are checked")
            said = time.monotonic()
        try:
            made[name] = apply(run, [Override(path, value_text(value)) for path, value in point.items()])  # type: ignore[assignment]
        except UserError as error:
            for line in str(error).splitlines():
                wrong.setdefault(line.removeprefix("--config."), []).append(name)
            continue
        first = same.setdefault(to_text(made[name]), name)
        if first != name:
            wrong.setdefault(f"{name}: is the same run as {first}", [])
    if wrong:
        lines = [f"sweep: {line}{_at(names)}" for line, names in wrong.items()]
        more = [f"sweep: and {len(lines) - MISTAKES:,} more mistakes of this kind"] if len(lines) > MISTAKES else []
        raise ConfigError([*lines[:MISTAKES], *more])
    return made


def _at(names: Sequence[str]) -> str:
    """Which points a mistake is at."""
    if not names:
        return ""
    more = f", and {len(names) - 3} more points" if len(names) > 3 else ""
    return f" (at {', '.join(names[:3])}{more})"


def _key(point: Point) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((path, value_text(value)) for path, value in point.items()))


def _distinct(points: Iterable[Point]) -> list[Point]:
    """Without those that came before; two are the same if their overrides read the same."""
    found: dict[Any, Point] = {}
    for point in points:
        found.setdefault(_key(point), point)
    return list(found.values())


def _size_problems(field: str, points: int) -> Iterator[Problem]:
    """A problem if a sweep has more `points` than anybody trains."""
    if points > MOST:
        yield Problem(field, points, f"must be at most {MOST:,} points")


def _path_problems(axes: Mapping[str, Any]) -> Iterator[Problem]:
    if not axes:
        yield Problem("axes", axes, "must name at least one field")
    for path in axes:
        if not (isinstance(path, str) and all(path.split("."))):
            yield Problem("axes", path, "must be the path of a field, as model.depth")


def _axis_problems(axes: Mapping[str, Sequence[Value]]) -> Iterator[Problem]:
    yield from _path_problems(axes)
    for path, values in axes.items():
        yield from value_problems(f"axes[{path}]", values)

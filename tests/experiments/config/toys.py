"""Small specs with every kind of field that a configuration may have."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from arch.spec import Problem, Spec, at_least
from experiments.config.overrides import Override, apply


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@dataclasses.dataclass(frozen=True)
class Norm(Spec, abc.ABC):
    @abc.abstractmethod
    def build(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class RMSNorm(Norm):
    eps: float = 1e-6

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "eps")

    def build(self) -> str:
        return "rms"


@dataclasses.dataclass(frozen=True)
class LayerNorm(Norm):
    eps: float = 1e-5
    bias: bool = True

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "eps")

    def build(self) -> str:
        return "layer"


@dataclasses.dataclass(frozen=True)
class Scaled(Norm):
    """A wrapper around any norm."""

    base: Norm
    factor: float = 1.0

    def build(self) -> str:
        return "scaled " + self.base.build()


@dataclasses.dataclass(frozen=True)
class Attention(Spec):
    heads: int
    head_dim: int | None = None
    norm: Norm | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads", "head_dim")

    def build(self, width: int) -> int:
        if width % self.heads:
            raise self.invalid("heads", f"must divide the width {width}")
        return width // self.heads


@dataclasses.dataclass(frozen=True)
class Model(Spec):
    width: int = 64
    depth: int = 2
    mixer: Attention = Attention(heads=4)
    norm: Norm = RMSNorm()
    extra: Norm | None = None
    layers: tuple[Norm, ...] = (RMSNorm(), LayerNorm())

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "width", "depth")

    def build(self) -> int:
        return self.mixer.build(self.width)


@dataclasses.dataclass(frozen=True)
class Rule(Spec):
    pattern: str = ".*"
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Run(Spec):
    model: Model = Model()
    rate: float = 1e-3
    steps: int = 10
    seed: int | None = None
    name: str = "run"
    note: str | None = None
    fast: bool = False
    mode: Literal["scan", "unroll"] = "scan"
    colour: Colour = Colour.RED
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    rules: tuple[Rule, ...] = (Rule(),)
    table: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"a": 1.0, "b": 2.0})
    arms: dict[str, Norm] = dataclasses.field(default_factory=lambda: {"one": RMSNorm()})
    either: int | str = 1
    length: int | float | None = None
    warm: int | Literal["auto"] = "auto"
    anything: Any = None
    computed: int = dataclasses.field(default=7, init=False)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "steps")

    def conflicts(self) -> Iterator[Problem]:
        if self.steps > 1000 and self.fast:
            yield Problem("steps", self.steps, "must be at most 1000 when fast")


def override(*flags: str, spec: Spec | None = None) -> Spec:
    parts = [flag.partition("=") for flag in flags]
    return apply(Run() if spec is None else spec, [Override(path, text if sep else None) for path, sep, text in parts])

"""Blocks whose writes are scaled by something learned that starts small.

`LayerScale`  x + g * f(norm(x)), g a vector of D that starts at 1e-5      (CaiT, arXiv 2103.17239)
`SkipInit`    x + a f(norm(x)), a one number that starts at 0              (arXiv 2002.10444)

SkipInit was proposed without norms; with them it is the arm of arXiv 2502.05795.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNormLayer
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem


@dataclasses.dataclass(frozen=True)
class LayerScale(Block):
    """x + g * f(norm(x)). `initial` is where every entry of g starts; the paper starts deeper models lower."""

    initial: float = 1e-5

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if not math.isfinite(self.initial):
            yield Problem("initial", self.initial, "must be a finite number")

    def build(self, width, make):
        return LearnedScaleLayer(self, self.initial, [(width, "embed")], width, make)


@dataclasses.dataclass(frozen=True)
class SkipInit(Block):
    """x + a f(norm(x)). `initial` is where a starts."""

    initial: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if not math.isfinite(self.initial):
            yield Problem("initial", self.initial, "must be a finite number")

    def build(self, width, make):
        return LearnedScaleLayer(self, self.initial, [], width, make)


class LearnedScaleLayer(PreNormLayer):
    def __init__(
        self, spec: Block, initial: float, sizes: list[tuple[int, str | None]], width: int, make: ParamFactory
    ):
        super().__init__(spec, width, make)
        self.add_beside("scale", lambda name: make.at(f"{name}_scale").constant(sizes, initial))

    def finish(self, name, y, ctx):
        return super().finish(name, y * align(self.beside(name, "scale")[...], y), ctx)

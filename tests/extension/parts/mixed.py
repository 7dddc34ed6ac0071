"""A block of one's own among others: ReZero (arXiv 2003.04887), x + alpha f(x) without a norm, alpha starting at 0."""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block, BlockLayer
from arch.context import Result
from arch.layers.shapes import align
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class ReZero(Block):
    """`start`: alpha of each sublayer before the first step."""

    start: float = 0.0

    def build(self, width, make):
        return ReZeroLayer(self, width, make)


class ReZeroLayer(BlockLayer):
    def __init__(self, spec: ReZero, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.add_beside("alpha", lambda name: make.constant([(1, None)], spec.start))

    def step(self, name, x, ctx):
        y, cache = self.write(name, x, ctx)
        return Result(x + y, cache)

    def finish(self, name, y, ctx):
        return super().finish(name, y * align(self.beside(name, "alpha")[...], y), ctx)

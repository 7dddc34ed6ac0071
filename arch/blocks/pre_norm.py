"""Pre-norm (arXiv 2002.04745): x + f(norm(x)) for each sublayer."""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block, BlockLayer
from arch.context import Result
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class PreNorm(Block):
    """x + f(norm(x)) for each sublayer."""

    def build(self, width, make):
        return PreNormLayer(self, width, make)


class PreNormLayer(BlockLayer):
    def __init__(self, spec: Block, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.add_beside("norm", lambda name: spec.norm.build(width, make.at(f"{name}_norm")))

    def step(self, name, x, ctx):
        y, cache = self.write(name, self.beside(name, "norm")(x, ctx), ctx)
        return Result(x + y, cache)

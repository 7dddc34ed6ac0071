"""Sandwich norm (arXiv 2105.13290; Peri-LN, arXiv 2502.02732): x + norm(f(norm(x))) for each sublayer."""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNormLayer
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class SandwichNorm(Block):
    """x + norm(f(norm(x))) for each sublayer, with norms of their own before and after."""

    def build(self, width, make):
        return SandwichNormLayer(self, width, make)


class SandwichNormLayer(PreNormLayer):
    def __init__(self, spec: Block, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.add_beside("out_norm", lambda name: spec.norm.build(width, make.at(f"{name}_out_norm")))

    def finish(self, name, y, ctx):
        return super().finish(name, self.beside(name, "out_norm")(y, ctx), ctx)

"""Reordered norm of OLMo 2 (arXiv 2501.00656), res-post-norm of Swin V2 (arXiv 2111.09883): x + norm(f(x))."""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNormLayer
from arch.context import Result


@dataclasses.dataclass(frozen=True)
class ReorderedNorm(Block):
    """x + norm(f(x)) for each sublayer: what it writes is normed, what it reads and the stream are not."""

    def build(self, width, make):
        return ReorderedNormLayer(self, width, make)


class ReorderedNormLayer(PreNormLayer):
    def finish(self, name, y, ctx):
        return super().finish(name, self.beside(name, "norm")(y, ctx), ctx)

    def step(self, name, x, ctx):
        y, cache = self.write(name, x, ctx)
        return Result(x + y, cache)

"""Post-norm (arXiv 1706.03762): norm(x + f(x)) for each sublayer."""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNormLayer
from arch.context import Result, gate


@dataclasses.dataclass(frozen=True)
class PostNorm(Block):
    """norm(x + f(x)) for each sublayer. A closed gate leaves the stream as it is, without the norm."""

    def build(self, width, make):
        return PostNormLayer(self, width, make)


class PostNormLayer(PreNormLayer):
    def finish(self, name, y, ctx):
        return y

    def step(self, name, x, ctx):
        y, cache = self.write(name, x, ctx)
        y = self.beside(name, "norm")(self.carried(name, x) + y, ctx)
        return Result(gate(ctx.gates.get(name), y, x), cache)

    def carried(self, name, x):
        """The stream as it enters the sum with what sublayer `name` adds."""
        return x

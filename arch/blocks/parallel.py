"""Parallel sublayers: x + mixer(norm(x)) + feed_forward(norm(x)) (GPT-J; arXiv 2204.02311, section 2)."""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block, BlockLayer
from arch.context import Result
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class Parallel(Block):
    """x + the sum of what the sublayers make of norm(x): all read the same normed stream."""

    def build(self, width, make):
        return ParallelLayer(self, width, make)


class ParallelLayer(BlockLayer):
    def __init__(self, spec: Block, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.norm = spec.norm.build(width, make.at("norm"))

    def residual(self, x, ctx):
        h = self.norm(x, ctx)
        results = [self.write(name, h, ctx) for name in self.names]
        caches = {name: cache for result in results for name, cache in result.cache.items()}
        return Result(x + sum(result.x for result in results), caches)

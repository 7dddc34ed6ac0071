"""Pre-norm without a norm before the mixer: the first layer of a model that norms its embedding (ModernBERT, arXiv
2412.13663; Ettin, arXiv 2507.11412).

`FirstThen((BareMixer(...),), (PreNorm(...),))` gives a stack such a first layer.
"""

from __future__ import annotations

import dataclasses

from arch.blocks.base import Block, BlockLayer
from arch.context import Result
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class BareMixer(Block):
    """x + mixer(x), then x + f(norm(x)) for each other sublayer."""

    def build(self, width, make):
        return BareMixerLayer(self, width, make)


class BareMixerLayer(BlockLayer):
    """Has the parameters of a pre-norm block but for `mixer_norm`."""

    def __init__(self, spec: BareMixer, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        for name in self.names:
            if name != "mixer":
                self._hold(f"{name}_norm", spec.norm.build(width, make.at(f"{name}_norm")))

    def step(self, name, x, ctx):
        h = x if name == "mixer" else self.beside(name, "norm")(x, ctx)
        y, cache = self.write(name, h, ctx)
        return Result(x + y, cache)

"""BERT's input (arXiv 1810.04805, in its released code): a norm over token embedding and learned position together.

x = norm(E[t] + P[p])
"""

from __future__ import annotations

import dataclasses

from arch.context import Context
from arch.layers.norms.common import LayerNorm, Norm
from arch.layers.positions import Learned, LearnedLayer
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class NormedLearned(Learned):
    """norm(x + a learned vector for each of `length` positions). A model-level part."""

    norm: Norm = LayerNorm(eps=1e-12)

    def build(self, width, heads, make):
        return NormedLearnedLayer(self, width, make)


class NormedLearnedLayer(LearnedLayer):
    def __init__(self, spec: NormedLearned, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.norm = spec.norm.build(width, make.at("norm"))

    def embed(self, x, positions):
        outside = Context(positions, None, positions, None)  # a norm reads at most the layer, and there is none here
        return self.norm(super().embed(x, positions), outside)

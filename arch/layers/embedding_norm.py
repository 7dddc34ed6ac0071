"""An embedding with a norm behind it: with `SandwichNorm` blocks it makes Peri-LN (arXiv 2502.02732)."""

from __future__ import annotations

import dataclasses

from jaxtyping import Array, Float, Int

from arch.context import Context
from arch.layers.embeddings import Embedding, EmbeddingLayer
from arch.layers.norms.common import Norm, RMSNorm
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class NormedEmbedding(Embedding):
    """norm(table[token] * scale)."""

    norm: Norm = RMSNorm()

    def build(self, vocab, width, make):
        return NormedEmbeddingLayer(self, vocab, width, make)


class NormedEmbeddingLayer(EmbeddingLayer):
    def __init__(self, spec: NormedEmbedding, vocab: int, width: int, make: ParamFactory):
        super().__init__(spec, vocab, width, make)
        self.norm = spec.norm.build(width, make.at("norm"))

    def __call__(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        outside = Context(tokens_BT, None, tokens_BT, None)  # a norm reads at most the layer, and there is none here
        return self.norm(super().__call__(tokens_BT), outside)

"""A tied head that scales what it reads (T5, arXiv 1910.10683, in its released code): logits = (h D^-1/2) E^T.

T5's embeddings start at unit variance; without the factor so would each term of the products with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax

from arch.layers.embeddings import EmbeddingLayer, Head, HeadLayer
from arch.params import ParamFactory
from arch.spec import Problem, above


@dataclasses.dataclass(frozen=True)
class ScaledTied(Head):
    """Logits from the embedding table and the last state times `scale`; None: D^-1/2."""

    scale: float | None = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from above(self, 0, "scale")

    def build(self, vocab, width, make):
        return ScaledTiedLayer(self, width, make)


class ScaledTiedLayer(HeadLayer):
    def __init__(self, spec: ScaledTied, width: int, make: ParamFactory):
        super().__init__(spec.softcap)
        self.scale = width**-0.5 if spec.scale is None else spec.scale

    def products(self, x_BTD: jax.Array, embedding: EmbeddingLayer) -> jax.Array:
        return embedding.attend(x_BTD * self.scale)

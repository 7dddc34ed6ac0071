"""The prediction head of BERT (arXiv 1810.04805, in its released code) and ModernBERT (arXiv 2412.13663).

logits = norm(activation(h W_d)) E^T + b, with E the embedding table and b a bias for each token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import get_args

import jax
import numpy as np

from arch.context import Context
from arch.layers.embeddings import EmbeddingLayer, Head, HeadLayer
from arch.layers.feed_forward import ACTIVATIONS, Activation
from arch.layers.linear import Dense, Linear
from arch.layers.norms.common import LayerNorm, Norm
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem, one_of


@dataclasses.dataclass(frozen=True)
class PredictionHead(Head):
    """norm(activation(h W_d)) E^T + b, tied to the embedding.

    Attributes:
      norm: of the transformed state; ModernBERT's has no bias, BERT's has.
      activation: "gelu" is exact.
      linear: the kind of W_d, [D, D]; BERT's has a bias.
    """

    norm: Norm = LayerNorm(bias=False)
    activation: Activation = "gelu"
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "activation", get_args(Activation))

    def build(self, vocab, width, make):
        return PredictionHeadLayer(self, vocab, width, make)


class PredictionHeadLayer(HeadLayer):
    def __init__(self, spec: PredictionHead, vocab: int, width: int, make: ParamFactory):
        super().__init__(spec.softcap)
        self.activation = spec.activation
        self.dense = spec.linear.build([(width, "embed")], [(width, "embed")], make, name="dense", role="transform")
        self.norm = spec.norm.build(width, make.at("norm"))
        self.bias = make.constant([(vocab, "vocab")], 0.0)

    def products(self, x_BTD: jax.Array, embedding: EmbeddingLayer) -> jax.Array:
        nowhere = np.zeros((1, 0), np.int32)
        outside = Context(nowhere, None, nowhere, None)  # a norm reads at most the layer, and there is none here
        h_BTD = self.norm(ACTIVATIONS[self.activation](self.dense(x_BTD)), outside)
        logits_BTV = embedding.attend(h_BTD)
        return logits_BTV + align(self.bias[...], logits_BTV)

"""A head whose logits are clipped to +-gamma, in training and in inference (arXiv 1609.08144, eq. 13)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp

from arch.layers.embeddings import Head, HeadLayer, Untied
from arch.params import ParamFactory
from arch.spec import Problem, above


@dataclasses.dataclass(frozen=True)
class ClippedHead(Head):
    """The logits of `head`, clipped to +-`gamma`."""

    head: Head = Untied()
    gamma: float = 25.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from above(self, 0, "gamma")

    def build(self, vocab, width, make):
        return ClippedHeadLayer(self, vocab, width, make)


class ClippedHeadLayer(HeadLayer):
    def __init__(self, spec: ClippedHead, vocab: int, width: int, make: ParamFactory):
        super().__init__(spec.softcap)
        self.gamma = spec.gamma
        self.head = spec.head.build(vocab, width, make)

    def products(self, x_BTD, embedding):
        return jnp.clip(self.head(x_BTD, embedding), -self.gamma, self.gamma)

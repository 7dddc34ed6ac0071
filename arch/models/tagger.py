"""The tagger: a class for every token, by a trunk and a small head at each place (BERT, arXiv 1810.04805, section 4.3).

The trunk is that of an encoder or of a decoder: its block says what a token sees, and its parameters have the paths
that they have there, so that a tagger starts from either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from flax import nnx

from arch.layers.heads.class_heads import ClassHead, LinearHead
from arch.models.base import Model, Output, Tagging
from arch.models.trunk import Trunk, TrunkNetwork
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Tagger(Trunk, Model, Tagging):
    """One label a token.

    Attributes:
      classes: labels to choose from.
      head: from the vector of a token to logits, the same at every place.
    """

    classes: int = 2
    head: ClassHead = LinearHead()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 2, "classes")

    def build(self, *, rngs: nnx.Rngs) -> TaggerNetwork:
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return TaggerNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


class TaggerNetwork(TrunkNetwork):
    """Logits [B, T, classes] of every token. Tap sites: those of the trunk, and "logits"."""

    reads = ("tokens", "positions", "segments", "coordinates")

    def __init__(self, spec: Tagger, make: ParamFactory):
        super().__init__(spec, make)
        self.head = spec.head.build(spec.width, spec.classes, spec.width, make.at("head"))

    def forward(self, inputs, ctx, cache):
        x_BTD, _ = self.hidden(inputs, ctx)
        return Output(ctx.tap("logits", self.head(x_BTD)), None, x_BTD)


def tagger_of(model: Trunk, **fields: Any) -> Tagger:
    """The tagger whose trunk is that of `model`; `fields` of its own are `classes` and `head`."""
    return Tagger(**{field.name: getattr(model, field.name) for field in dataclasses.fields(Trunk)}, **fields)

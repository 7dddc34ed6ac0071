"""Synthesizer (arXiv 2005.00743): attention patterns made without comparing tokens.

`DenseSynthesizer` (section 3.1.1)  score[t, :] = W2 relu(W1 x_t), from each token alone
`RandomSynthesizer` (section 3.1.2) score = R, a learned matrix that does not depend on the input
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.attention.heads import HeadLayer, HeadMixer, one_document, visible_tokens, weigh
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Synthesizer(HeadMixer, abc.ABC):
    """Base of both kinds. Rows have at most `length` tokens."""

    length: int = 1024

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "length")


@dataclasses.dataclass(frozen=True)
class DenseSynthesizer(Synthesizer):
    """Each token tells from itself which places it reads; the hidden layer of a head has the head's width."""

    def build(self, width, make):
        return DenseSynthesizerLayer(self, width, make)


@dataclasses.dataclass(frozen=True)
class RandomSynthesizer(Synthesizer):
    """Each head has one learned pattern for all rows."""

    def build(self, width, make):
        return RandomSynthesizerLayer(self, width, make)


class SynthesizerLayer(HeadLayer):
    """The value path; subclasses say how scores are made."""

    def __init__(self, spec: Synthesizer, width: int, make: ParamFactory, inputs: tuple[str, ...]):
        super().__init__(spec, width, make, inputs)
        self.length = spec.length

    @abc.abstractmethod
    def scores(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Float[Array, "#B N T T"]:
        """The score of every pair, padding included."""

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        self.refuse_longer(x_BTD.shape[1], self.length)
        v_BTNK = self.project("v", x_BTD, ctx)
        z_BTNK = weigh(self.scores(x_BTD, ctx), v_BTNK, visible_tokens(ctx), ctx.tap)
        return Result(self.output(one_document(z_BTNK, ctx), ctx))


class DenseSynthesizerLayer(SynthesizerLayer):
    def __init__(self, spec: DenseSynthesizer, width: int, make: ParamFactory):
        super().__init__(spec, width, make, ("q", "v"))
        places = [(self.heads, "heads"), (spec.length, "length")]
        self.places = make.weight("places", [(self.head_dim, "head_dim")], places)

    def scores(self, x_BTD, ctx):
        hidden_BTNK = jax.nn.relu(self.project("q", x_BTD, ctx))
        places_KNS = self.places[...][:, :, : x_BTD.shape[1]].astype(x_BTD.dtype)
        return jnp.einsum("btnk,kns->bnts", hidden_BTNK, places_KNS, preferred_element_type=jnp.float32)


class RandomSynthesizerLayer(SynthesizerLayer):
    def __init__(self, spec: RandomSynthesizer, width: int, make: ParamFactory):
        super().__init__(spec, width, make, ("v",))
        place = (spec.length, "length")
        self.pattern = make.weight("pattern", [], [(self.heads, "heads"), place, place])

    def scores(self, x_BTD, ctx):
        T = x_BTD.shape[1]
        return self.pattern[...][None, :, :T, :T]

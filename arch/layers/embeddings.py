"""From tokens to vectors and back: the embedding table, and tied or untied heads."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.layers.shapes import contract
from arch.params import ParamFactory
from arch.spec import Problem, Spec, above


@dataclasses.dataclass(frozen=True)
class Embedding(Spec):
    """A table of V vectors. `scale` multiplies what is looked up (not the table; sqrt(D) in arXiv 1706.03762)."""

    scale: float | None = None

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "scale")

    def build(self, vocab: int, width: int, make: ParamFactory) -> EmbeddingLayer:
        return EmbeddingLayer(self, vocab, width, make)


class EmbeddingLayer(nnx.Module):
    def __init__(self, spec: Embedding, vocab: int, width: int, make: ParamFactory):
        self.scale = spec.scale
        self.table = make.weight("table", [(vocab, "vocab")], [(width, "embed")], role="embedding")

    def __call__(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        x_BTD = self.table[...][tokens_BT]
        return x_BTD if self.scale is None else x_BTD * self.scale

    def attend(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Products with every vector of the table: logits of a tied head."""
        return contract(x_BTD, self.table[...].T, dtype=jnp.float32)


@dataclasses.dataclass(frozen=True)
class Head(Spec, abc.ABC):
    """From the last hidden state to logits, float32. `softcap` bounds them by softcap * tanh(logits / softcap)."""

    softcap: float | None = None

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "softcap")

    @abc.abstractmethod
    def build(self, vocab: int, width: int, make: ParamFactory) -> HeadLayer:
        """The head of a model of `vocab` tokens and `width`."""


class HeadLayer(nnx.Module):
    def __init__(self, softcap: float | None):
        self.softcap = softcap

    def products(self, x_BTD: jax.Array, embedding: EmbeddingLayer) -> jax.Array:
        return embedding.attend(x_BTD)

    def __call__(self, x_BTD: Float[Array, "B T D"], embedding: EmbeddingLayer) -> Float[Array, "B T V"]:
        logits = self.products(x_BTD, embedding)
        return logits if self.softcap is None else self.softcap * jnp.tanh(logits / self.softcap)


@dataclasses.dataclass(frozen=True)
class Tied(Head):
    """Logits from the embedding table itself (arXiv 1608.05859)."""

    def build(self, vocab, width, make):
        return HeadLayer(self.softcap)


@dataclasses.dataclass(frozen=True)
class Untied(Head):
    """Logits from a matrix of their own."""

    def build(self, vocab, width, make):
        return UntiedLayer(self.softcap, vocab, width, make)


class UntiedLayer(HeadLayer):
    def __init__(self, softcap: float | None, vocab: int, width: int, make: ParamFactory):
        super().__init__(softcap)
        self.kernel = make.weight("kernel", [(width, "embed")], [(vocab, "vocab")], role="head")

    def products(self, x_BTD, embedding):
        return contract(x_BTD, self.kernel[...], dtype=jnp.float32)

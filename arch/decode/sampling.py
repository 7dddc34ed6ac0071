"""Greedy decoding and sampling: the next token from its logits, one a turn."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.decode.strategy import Choice, Strategy
from arch.spec import Problem, above, at_least, between


@dataclasses.dataclass(frozen=True)
class Sampler(Strategy, abc.ABC):
    """A rule for choosing one token after another: `sampler(logits, key) -> tokens`."""

    @abc.abstractmethod
    def __call__(self, logits_BV: Float[Array, "B V"], key: jax.Array) -> Int[Array, "B"]:
        """One token a row."""

    def next(self, state, seen, key):
        logits_BV = seen.logits[:, -1]
        token_B = self(logits_BV, key)
        return state, Choice(token_B[:, None], score(logits_BV, token_B)[:, None])


def score(logits_BV: Float[Array, "B V"], token_B: Int[Array, "B"]) -> Float[Array, "B"]:
    """The log-probability of each token under its logits."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits_BV, axis=-1), token_B[:, None], axis=-1)[:, 0]


@dataclasses.dataclass(frozen=True)
class Greedy(Sampler):
    """The most probable token."""

    def __call__(self, logits_BV, key):
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Sample(Sampler):
    """A draw from softmax(logits / temperature), cut first to the `top_k` most probable tokens, then to the nucleus:
    the smallest set of most probable tokens whose probability reaches `top_p` (arXiv 1904.09751). None: no cut.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "temperature", "top_p")
        yield from at_least(self, 1, "top_k")
        yield from between(self, 0, 1, "top_p")

    def __call__(self, logits_BV, key):
        return jax.random.categorical(key, self.filtered(logits_BV), axis=-1).astype(jnp.int32)

    def filtered(self, logits_BV: Float[Array, "B V"]) -> Float[Array, "B V"]:
        """Tempered logits with every excluded token at -inf. Tokens that tie with the last one kept are kept."""
        logits = logits_BV.astype(jnp.float32) / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        if self.top_p is not None:
            descending = -jnp.sort(-logits, axis=-1)
            probabilities = jax.nn.softmax(descending, axis=-1)
            before = jnp.cumsum(probabilities, axis=-1) - probabilities
            least = jnp.min(jnp.where(before < self.top_p, descending, jnp.inf), axis=-1, keepdims=True)
            logits = jnp.where(logits < least, -jnp.inf, logits)
        return logits

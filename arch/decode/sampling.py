"""Greedy decoding and sampling: the next token from its logits, one a turn."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
        logits = tempered(logits_BV.astype(jnp.float32), self.temperature)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        if self.top_p is not None and self.top_p < 1:
            descending = -jnp.sort(-logits, axis=-1)
            kept = in_nucleus(jax.nn.softmax(descending, axis=-1), self.top_p)
            least = jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True)
            logits = jnp.where(logits < least, -jnp.inf, logits)
        return logits


def tempered(logits_BV: Float[Array, "B V"], temperature: float) -> Float[Array, "B V"]:
    """Logits divided by `temperature` > 0, less their largest, which would overflow near 0 and hide the others."""
    largest_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    largest_B1 = jnp.where(jnp.isfinite(largest_B1), largest_B1, 0.0)
    return (logits_BV - largest_B1) / max(temperature, float(jnp.finfo(jnp.float32).tiny))


def in_nucleus(probabilities_BV: Float[Array, "B V"], top_p: float) -> Bool[Array, "B V"]:
    """Whether each of the probabilities, largest first, belongs to the smallest set that reaches `top_p`.

    Near 1 what is left is summed up from the small end, where float32 keeps it; the sum of the large ones would round
    it away.
    """
    if top_p > 0.5:
        left_BV = jnp.flip(jnp.cumsum(jnp.flip(probabilities_BV, axis=-1), axis=-1), axis=-1)
        return left_BV > 1 - top_p
    before_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV
    return before_BV < top_p

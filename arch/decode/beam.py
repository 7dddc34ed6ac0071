"""Beam search: the continuations of highest total log-probability among those that a beam of `width` rows keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arch.decode.strategy import Choice, Strategy
from arch.spec import Problem, at_least

NEVER = -1e30
"""Score of what is not to be chosen: finite, so that differences are."""


class Beams(NamedTuple):
    """Of each row [B]: the log-probability of its continuation, and how many tokens that has."""

    scores: jax.Array
    lengths: jax.Array


@dataclasses.dataclass(frozen=True)
class Beam(Strategy):
    """Beam search. A row that has ended keeps its score and its place while it is among the best.

    Attributes:
      width: rows of each prompt.
      length_penalty: alpha; ended rows are ranked by score / ((5 + length) / 6)^alpha (GNMT, arXiv 1609.08144, eq. 14).
    """

    width: int = 4
    length_penalty: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "width")
        yield from at_least(self, 0, "length_penalty")

    @property
    def rows(self):
        return self.width

    def init(self, prompt):
        rows = prompt.tokens.shape[0]
        first = jnp.arange(rows) % self.width == 0  # the rows of a prompt are alike at first: one stands for all
        return Beams(jnp.where(first, 0.0, NEVER), jnp.zeros(rows, jnp.int32))

    def next(self, state, seen, key):
        log_p = jax.nn.log_softmax(seen.logits[:, -1], axis=-1)
        vocab = log_p.shape[1]
        ended = jnp.where(jnp.arange(vocab) == jnp.maximum(seen.stop, 0), 0.0, NEVER)
        log_p = jnp.where(seen.done[:, None], ended[None], log_p)
        total = (state.scores[:, None] + log_p).reshape(-1, self.width * vocab)
        scores, places = jax.lax.top_k(total, self.width)
        first = self.width * jnp.arange(total.shape[0], dtype=jnp.int32)[:, None]
        parents = (first + (places // vocab).astype(jnp.int32)).reshape(-1)
        tokens, scores = (places % vocab).astype(jnp.int32).reshape(-1, 1), scores.reshape(-1)
        goes_on = (~seen.done[parents]).astype(jnp.int32)
        new = Beams(scores, state.lengths[parents] + goes_on)
        return new, Choice(tokens, (scores - state.scores[parents])[:, None], parents=parents)

    def ranks(self, state):
        return state.scores / ((5.0 + state.lengths.astype(jnp.float32)) / 6.0) ** self.length_penalty

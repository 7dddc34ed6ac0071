"""Rewards of continuations: GLEU (arXiv 1609.08144, sec. 7), a per-sentence score from n-grams.

All 1- to 4-grams of hypothesis and reference are collected with their counts; matches are what both have in common.
GLEU = min(matches / n-grams of the hypothesis, matches / n-grams of the reference). It lies in [0, 1] and is symmetric.
(The GLEU of grammar correction is another.)
"""

from __future__ import annotations

import abc
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.spec import Problem, Spec, at_least


@dataclasses.dataclass(frozen=True)
class Reward(Spec, abc.ABC):
    """A score of each row, inside the compiled program."""

    @abc.abstractmethod
    def __call__(
        self,
        hypotheses_BT: Int[Array, "B T"],
        lengths_B: Int[Array, "B"],
        references_BU: Int[Array, "B U"],
        reference_lengths_B: Int[Array, "B"],
    ) -> Float[Array, "B"]:
        """Higher is better. Of each row, so many first tokens count."""


@dataclasses.dataclass(frozen=True)
class GLEU(Reward):
    """GLEU of n-grams up to `order`. Two empty rows are alike: 1."""

    order: int = 4

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "order")

    def __call__(self, hypotheses_BT, lengths_B, references_BU, reference_lengths_B):
        T, U = hypotheses_BT.shape[1], references_BU.shape[1]
        within = hypotheses_BT[:, :, None] == hypotheses_BT[:, None, :]
        across = hypotheses_BT[:, :, None] == references_BU[:, None, :]
        own, other, matches = within, across, jnp.zeros_like(lengths_B)
        for n in range(1, min(self.order, T) + 1):
            if n > 1:  # [i, j]: the n-grams that begin at i and at j are equal
                own = own & _shifted(within, n - 1)
                other = other & _shifted(across, n - 1)
            there_T = jnp.arange(T)[None] + n <= lengths_B[:, None]
            there_U = jnp.arange(U)[None] + n <= reference_lengths_B[:, None]
            so_far = jnp.arange(T)[:, None] >= jnp.arange(T)[None]
            # The k-th n-gram of its kind is matched if the reference has k of them.
            kth = jnp.sum(own & so_far[None] & there_T[:, None], axis=2)
            known = jnp.sum(other & there_U[:, None], axis=2)
            matches = matches + jnp.sum(there_T & (kth <= known), axis=1)
        most = jnp.maximum(self.grams(lengths_B), self.grams(reference_lengths_B))
        score = matches.astype(jnp.float32) / jnp.maximum(most, 1).astype(jnp.float32)
        return jnp.where(most == 0, jnp.float32(1.0), score)

    def grams(self, lengths_B: Any) -> Any:
        """How many n-grams rows of these lengths have."""
        return sum(jnp.maximum(lengths_B - n, 0) for n in range(self.order))


def _shifted(equal: jax.Array, by: int) -> jax.Array:
    """[b, i, j] -> [b, i + by, j + by]; False beyond the end."""
    return jnp.pad(equal[:, by:, by:], ((0, 0), (0, by), (0, by)))


def gleu(hypothesis: Sequence[Any], reference: Sequence[Any], order: int = 4) -> float:
    """GLEU of two sentences of anything hashable, on the host."""

    def grams(row: Sequence[Any]) -> Counter[tuple[Any, ...]]:
        return Counter(tuple(row[i : i + n]) for n in range(1, order + 1) for i in range(len(row) - n + 1))

    mine, other = grams(hypothesis), grams(reference)
    most = max(mine.total(), other.total())
    return (mine & other).total() / most if most else 1.0

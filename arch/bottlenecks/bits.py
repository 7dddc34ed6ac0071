"""How many bits discrete codes take.

one of C, all equally probable            log2 C
one of C, chosen n_c times                -sum_c p_c log2 p_c with p = n / sum n
a set of k of C                           log2 binomial(C, k), at most k times the entropy of one
k of C with an amplitude each             the same and k times the bits of an amplitude
"""

from __future__ import annotations

import math
from typing import Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.bottlenecks.usage import entropy

AMPLITUDE: Final = 32
"""Bits of an amplitude, unless another precision is stated: those of float32."""


def uniform_bits(codes: int) -> float:
    """Of one of `codes`."""
    return math.log2(codes)


def set_bits(codes: int, k: int) -> float:
    """Of `k` different ones of `codes`, in no order."""
    return (math.lgamma(codes + 1) - math.lgamma(k + 1) - math.lgamma(codes - k + 1)) / math.log(2)


def entropy_bits(counts: Float[Array, "*s C"]) -> Float[Array, "*s"]:
    """Of one code that was chosen as often as counted."""
    return entropy(counts) / math.log(2)


def chosen_bits(counts: Float[Array, "C"] | None, codes: int, k: int) -> jax.Array:
    """Of `k` different codes in no order: the ceiling without counts; with them no more than if the k were
    independent."""
    ceiling = jnp.asarray(set_bits(codes, k), jnp.float32)
    return ceiling if counts is None else jnp.minimum(ceiling, k * entropy_bits(counts))


def sparse_bits(counts: Float[Array, "C"] | None, codes: int, k: int, amplitude: int = AMPLITUDE) -> jax.Array:
    """Of `k` different codes with an amplitude of so many bits each."""
    return chosen_bits(counts, codes, k) + k * amplitude

"""How far the distribution of a student is from that of a teacher, at one step. p: the teacher's, q: the student's."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.spec import Problem, Spec, above


@dataclasses.dataclass(frozen=True)
class Divergence(Spec, abc.ABC):
    """A divergence of two distributions over V tokens."""

    @abc.abstractmethod
    def __call__(self, p: Float[Array, "*B V"], q: Float[Array, "*B V"]) -> Float[Array, "*B"]:
        """Nats, from log-probabilities of teacher and student."""


@dataclasses.dataclass(frozen=True)
class ForwardKL(Divergence):
    """KL(p | q) = sum p (log p - log q): the student covers all that the teacher does (arXiv 1503.02531)."""

    def __call__(self, p, q):
        return kl(p, q)


@dataclasses.dataclass(frozen=True)
class ReverseKL(Divergence):
    """KL(q | p): the student stays where the teacher is (MiniLLM, arXiv 2306.08543)."""

    def __call__(self, p, q):
        return kl(q, p)


@dataclasses.dataclass(frozen=True)
class JensenShannon(Divergence):
    """beta KL(p | m) + (1 - beta) KL(q | m), m = beta p + (1 - beta) q (GKD, arXiv 2306.13649, eq. 1)."""

    beta: float = 0.5

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "beta")
        if self.beta >= 1:
            yield Problem("beta", self.beta, "must be less than 1")

    def __call__(self, p, q):
        mixed = jnp.logaddexp(p + jnp.log(self.beta), q + jnp.log1p(-jnp.float32(self.beta)))
        return self.beta * kl(p, mixed) + (1 - self.beta) * kl(q, mixed)


def kl(p: Float[Array, "*B V"], q: Float[Array, "*B V"]) -> Float[Array, "*B"]:
    """KL of the distributions whose log-probabilities these are."""
    return jnp.sum(jnp.exp(p) * (p - q), axis=-1)

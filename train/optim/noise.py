"""Gradient noise (arXiv 1511.06807, eq. 1):

    g_t <- g_t + N(0, s_t^2),   s_t^2 = eta / (1 + t)^gamma,   t = 0, 1, ... counts updates

independent for every number of every parameter, whatever the size of the gradient; added once an update, after clipping
and before the optimiser's direction. What is drawn depends on the seed, the update and the parameter's path alone: a
resumed run draws what the uninterrupted one would have, and so does a run on any number of devices.

Where there is no gradient the noise is a random walk of the weights, a slow new initialisation: `walk_std`.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arch.spec import Problem, Spec, at_least
from train.optim.rules import dotted


class NoiseState(NamedTuple):
    """How many `updates` there were, int32 scalar."""

    updates: jax.Array


@dataclasses.dataclass(frozen=True)
class GradientNoise(Spec):
    """Gaussian noise on the gradient.

    Attributes:
      eta: the variance at the first update. The paper chooses from 0.01, 0.3 and 1.
      gamma: how fast the variance falls: as (1 + t)^-gamma.
    """

    eta: float = 0.01
    gamma: float = 0.55

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "eta", "gamma")

    def build(self, seed: jax.typing.ArrayLike) -> optax.GradientTransformation:
        """The transformation; `seed`, `eta` and `gamma` may be traced. An `eta` of 0 is the identity, bit for bit."""
        own = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"gradient noise"))

        def init(params: optax.Params) -> NoiseState:
            return NoiseState(jnp.zeros((), jnp.int32))

        def update(updates: optax.Updates, state: NoiseState, params: Any = None) -> tuple[Any, NoiseState]:
            key = jax.random.fold_in(own, state.updates)
            variance = self.eta / (1.0 + state.updates.astype(jnp.float32)) ** self.gamma
            std = jnp.sqrt(variance)

            def add(keys: tuple[Any, ...], gradient: jax.Array) -> jax.Array:
                one = jax.random.fold_in(key, zlib.crc32(dotted(keys).encode()))
                noise = std * jax.random.normal(one, gradient.shape, jnp.float32)
                noisy = gradient + noise.astype(gradient.dtype)
                return jnp.where(std > 0, noisy, gradient)  # -0.0 + 0.0 would be 0.0

            return jax.tree_util.tree_map_with_path(add, updates), NoiseState(state.updates + 1)

        return optax.GradientTransformation(init, update)


def walk_std(
    start: float, learning_rate: float, eta: float, steps: np.typing.ArrayLike, gamma: float = 0.55
) -> np.ndarray:
    """The standard deviation of weights after `steps` updates by noise alone.

    sqrt(start^2 + learning_rate^2 eta sum_{t < steps} (1 + t)^-gamma), for SGD without momentum at a constant rate from
    weights of standard deviation `start`. Tells when a network without gradients becomes one that has them: a ReLU
    network of width N is critical at sqrt(2 / N).
    """
    steps = np.asarray(steps)
    sums = np.concatenate([[0.0], np.cumsum((1.0 + np.arange(steps.max(initial=0))) ** -gamma)])
    return np.sqrt(start**2 + learning_rate**2 * eta * sums[steps])

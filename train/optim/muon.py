"""Muon: momentum made orthogonal by a Newton-Schulz iteration (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    M <- momentum * M + G                O = NewtonSchulz(G + momentum * M)  ~  U V^T of the SVD U S V^T
    P <- P - learning_rate * scale * (O + ...)

For matrices of hidden layers. A matrix is one layer's (and one expert's), with the head axes of attention kernels
folded into the side that they belong to; embeddings, the output head, gains, biases and kernels with more than two
sides (convolutions) take Adam's direction.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from arch.spec import Problem, Spec, above, one_of
from train.optim.layout import Layout
from train.optim.optimizers import Optimizer, adam, decay_problems, map_with_path, partition

# Quintic of the reference: steepest at zero among those that keep the singular values within about [0.7, 1.2].
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
_EPS = 1e-7

# Axes that number things looked up or told apart. A row of such a table is a vector by itself.
TABLES = frozenset({"vocab", "codes", "classes"})


@dataclasses.dataclass(frozen=True)
class Others(Spec):
    """Adam for the parameters that are no hidden matrices; `multiplier` of the learning rate that Muon has."""

    multiplier: float = 1.0
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "multiplier", "eps")
        yield from decay_problems(self, "b1", "b2")


@dataclasses.dataclass(frozen=True)
class Muon(Optimizer):
    """Muon, and Adam for `others`.

    `scale` makes the step of a matrix independent of its shape: "rms" by 0.2 * sqrt(max(inputs, outputs)), which has
    the size of Adam's steps, so that both share a learning rate (arXiv:2502.16982, section 2.2); "width" by
    sqrt(max(1, outputs / inputs)) as in the reference code, whose learning rate is near 0.02 and needs
    `others.multiplier` to bring Adam's down.
    """

    needs_axes: ClassVar[bool] = True

    weight_decay: float = 0.1
    momentum: float = 0.95
    scale: Literal["rms", "width"] = "rms"
    others: Others = Others()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from decay_problems(self, "momentum")
        yield from one_of(self, "scale", ("rms", "width"))

    def own_multiplier(self, path: str, layout: Layout) -> float:
        return 1.0 if is_hidden_matrix(path, layout) else self.others.multiplier

    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        matrices = optax.chain(
            optax.trace(self.momentum, nesterov=True),
            optax.stateless(lambda updates, params: map_with_path(self._orthogonal(layouts), updates)),
        )
        others = adam(self.others.b1, self.others.b2, self.others.eps)
        labels = {path: "matrix" if is_hidden_matrix(path, layout) else "other" for path, layout in layouts.items()}
        return partition({"matrix": matrices, "other": others}, labels)

    def _orthogonal(self, layouts: Mapping[str, Layout]) -> Callable[[str, jax.Array], jax.Array]:
        def orthogonal(path: str, update: jax.Array) -> jax.Array:
            layout = layouts[path]
            inputs, outputs = layout.fans(update.shape)
            rms = self.scale == "rms"
            scale = 0.2 * math.sqrt(max(inputs, outputs)) if rms else math.sqrt(max(1, outputs / inputs))
            order = layout.stacked + layout.rows + layout.columns
            moved = update.transpose(order)
            stacked = moved.shape[: len(layout.stacked)]
            result = orthogonalize(moved.reshape(*stacked, inputs, outputs)) * scale
            return result.reshape(moved.shape).transpose(sorted(range(len(order)), key=order.__getitem__))

        return orthogonal


def is_hidden_matrix(path: str, layout: Layout) -> bool:
    """Whether Muon's own rule applies: a matrix between features, not a table and not the output head."""
    return layout.is_matrix and not layout.names & TABLES and not path.endswith("table")


def orthogonalize(matrix: jax.Array) -> jax.Array:
    """[..., inputs, outputs] -> the same with its singular values brought near 1, by five Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (jnp.sqrt(jnp.square(x).sum((-2, -1), keepdims=True)) + _EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x

"""Muon: momentum made orthogonal by a Newton-Schulz iteration (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    M <- momentum * M + G                O = NewtonSchulz(G + momentum * M)  ~  U V^T of the SVD U S V^T
    P <- P - learning_rate * scale * (O + ...)

For matrices of hidden layers, by `optax.contrib.scale_by_muon`. A matrix is one layer's (and one expert's), with the
head axes of attention kernels folded into the side that they belong to; lookup tables, the output head, gains and
biases, by their role, and kernels with more than two sides (convolutions) take Adam's direction.

At update t optax weighs G with (1 - momentum^(t+1)) / (1 - momentum^t) times the reference's weight, because it
corrects both terms for their bias as NAdam does. The first direction is the reference's, the second weighs G half as
much again (46 % at a momentum of 0.95), and from update 40 on the weights agree within 1 %. We take optax's: what is
made orthogonal keeps its size, so that only the mix of new and old gradients differs, and only in the first updates.
Its epsilon is 1e-8 against 1e-7, beside the Frobenius norm of a whole gradient.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import jax
import optax

from arch.spec import Problem, Spec, above, one_of
from train.optim.layout import Layout
from train.optim.optimizers import Optimizer, decay_problems, map_with_path, partition, promoting
from train.optim.rules import UNDECAYED

# Roles of parameters that are no map between features, whatever their shape: a row of a table, or the weights of one
# class of the output, is a vector by itself.
NO_MATRIX = UNDECAYED | {"head"}


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

    def own_multiplier(self, layout: Layout) -> float:
        return 1.0 if is_hidden_matrix(layout) else self.others.multiplier

    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        def dimensions(tree: optax.Params) -> optax.Params:
            return map_with_path(lambda path, _: optax.contrib.MuonDimensionNumbers(*layouts[path].sides), tree)

        def resize(path: str, update: jax.Array) -> jax.Array:
            inputs, outputs = layouts[path].sizes(update.shape)
            rms = self.scale == "rms"
            return update * (0.2 * math.sqrt(max(inputs, outputs)) if rms else math.sqrt(max(1, outputs / inputs)))

        orthogonal = optax.contrib.scale_by_muon(beta=self.momentum, weight_dimension_numbers=dimensions)
        sized = optax.stateless(lambda updates, params: map_with_path(resize, updates))
        others = optax.scale_by_adam(self.others.b1, self.others.b2, self.others.eps)
        labels = {path: "matrix" if is_hidden_matrix(layout) else "other" for path, layout in layouts.items()}
        return promoting(partition({"matrix": optax.chain(orthogonal, sized), "other": others}, labels))


def is_hidden_matrix(layout: Layout) -> bool:
    """Whether Muon's own rule applies: a matrix between features, not a table and not the output head."""
    return layout.is_matrix and layout.role not in NO_MATRIX

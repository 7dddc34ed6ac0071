"""Adafactor: second moments of a matrix kept as those of its rows and columns (arXiv:1804.04235, algorithm 4).

    R = running mean of (mean over columns of G^2 + eps),  C the same over rows,  both at b_t = 1 - t^-0.8
    U = G / sqrt(R C / mean(R))
    U <- U / max(1, rms(U))                          the paper's clipping, d = 1
    U <- U * max(1e-3, rms(P))                       relative steps, if chosen

optax's transformations, run on one matrix at a time: under a scan every layer has its own factors and its own root
mean squares, so that a stacked model takes the steps of an unrolled one. Head axes count with the side of the matrix
that they belong to. Kernels with more sides (convolutions) are factored along their two largest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import optax

from arch.spec import Problem, at_least
from train.optim.layout import Layout
from train.optim.optimizers import Optimizer, decay_problems, map_with_path, promoting


@dataclasses.dataclass(frozen=True)
class Adafactor(Optimizer):
    """Adafactor. `relative` multiplies a step by the parameter's own size, as in the paper; the learning rate is then
    a relative one, near 1e-2. Matrices whose smaller side is below `factored_from` keep the full second moment.
    `momentum` averages the directions."""

    needs_axes: ClassVar[bool] = True

    learning_rate: float = 1e-2
    momentum: float | None = None
    relative: bool = True
    factored_from: int = 128

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from decay_problems(self, "momentum")
        yield from at_least(self, 1, "factored_from")

    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        one = optax.chain(
            optax.scale_by_factored_rms(min_dim_size_to_factor=self.factored_from),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms() if self.relative else optax.identity(),
        )
        momentum = optax.identity() if self.momentum is None else optax.ema(self.momentum, debias=False)
        return optax.chain(per_copy(promoting(one), layouts), momentum)


def per_copy(inner: optax.GradientTransformation, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
    """`inner` on every stacked copy of every parameter by itself, seen as an array of the layout's sides.

    The state has one of `inner` for each parameter, its arrays led by the stacked axes.
    """

    def init(params: optax.Params) -> optax.OptState:
        def start(path: str, param: jax.Array) -> optax.OptState:
            sizes = layouts[path].sizes(param.shape)
            one = lambda copy: inner.init(copy.reshape(sizes))  # noqa: E731
            for depth, axis in enumerate(layouts[path].stacked):  # the last stacked axis is taken off first
                one = jax.vmap(one, in_axes=axis, out_axes=depth)
            return one(param)

        return map_with_path(start, params)

    def update(updates: optax.Updates, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        def step(path: str, grad: jax.Array, state: optax.OptState, param: jax.Array) -> tuple[Any, optax.OptState]:
            sizes = layouts[path].sizes(grad.shape)

            def one(grad: jax.Array, state: optax.OptState, param: jax.Array) -> tuple[Any, optax.OptState]:
                direction, state = inner.update(grad.reshape(sizes), state, param.reshape(sizes))
                return direction.reshape(grad.shape), state

            for depth, axis in enumerate(layouts[path].stacked):
                one = jax.vmap(one, in_axes=(axis, depth, axis), out_axes=(axis, depth))
            return one(grad, state, param)

        done = map_with_path(step, updates, state, params)
        directions = jax.tree.map(lambda _, pair: pair[0], updates, done)
        return directions, jax.tree.map(lambda _, pair: pair[1], updates, done)

    return optax.GradientTransformation(init, update)

"""Adafactor: second moments of a matrix kept as those of its rows and columns (arXiv:1804.04235, algorithm 4).

    R = running mean of (mean over columns of G^2 + eps),  C the same over rows,  both at b_t = 1 - t^-0.8
    U = G / sqrt(R C / mean(R))
    U <- U / max(1, rms(U))                          the paper's clipping, d = 1
    U <- U * max(1e-3, rms(P))                       relative steps, if asked for

One matrix is one layer's: under a scan every layer has its own factors and its own root mean squares, so that a
stacked model takes the steps of an unrolled one. Head axes count with the side of the matrix that they belong to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arch.spec import Problem, at_least
from train.optim.layout import Layout
from train.optim.optimizers import Optimizer, decay_problems, map_with_path

_EPS = 1e-30
_SMALLEST_SCALE = 1e-3
_DECAY_EXPONENT = 0.8


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
        return optax.chain(
            scale_by_factored_moments(layouts, self.factored_from),
            _clip_by_block(layouts),
            _scale_by_parameter(layouts) if self.relative else optax.identity(),
            optax.identity() if self.momentum is None else optax.ema(self.momentum, debias=False),
        )


class FactoredState(NamedTuple):
    """Moments by parameter: `row` [..., rows] and `column` [..., columns] of the factored, `full` of the others."""

    step: jax.Array
    row: Any
    column: Any
    full: Any


def scale_by_factored_moments(layouts: Mapping[str, Layout], factored_from: int) -> optax.GradientTransformation:
    """G / sqrt(second moment), factored for matrices with both sides of at least `factored_from`."""

    def is_factored(path: str, array: Any) -> bool:
        layout = layouts[path]
        return layout.is_matrix and min(layout.fans(array.shape)) >= factored_from

    def init(params: optax.Params) -> FactoredState:
        def without(path: str, array: Any, side: str) -> Any:
            if not is_factored(path, array):
                return optax.MaskedNode()
            return jnp.zeros_like(jax.eval_shape(lambda a: a.mean(getattr(layouts[path], side)), array))

        return FactoredState(
            step=jnp.zeros([], jnp.int32),
            row=map_with_path(lambda path, array: without(path, array, "columns"), params),
            column=map_with_path(lambda path, array: without(path, array, "rows"), params),
            full=map_with_path(lambda p, a: optax.MaskedNode() if is_factored(p, a) else jnp.zeros_like(a), params),
        )

    def update(updates: optax.Updates, state: FactoredState, params: Any = None) -> tuple[Any, FactoredState]:
        step = optax.safe_increment(state.step)
        decay = 1.0 - step.astype(jnp.float32) ** -_DECAY_EXPONENT

        def running(old: jax.Array, new: jax.Array) -> jax.Array:
            return (decay * old + (1.0 - decay) * new).astype(old.dtype)

        def one(path: str, grad: jax.Array, row: Any, column: Any, full: Any) -> _One:
            squared = jnp.square(grad) + _EPS
            if not is_factored(path, grad):
                full = running(full, squared)
                return _One(grad * jax.lax.rsqrt(full), row, column, full)
            rows, columns = layouts[path].rows, layouts[path].columns
            row, column = running(row, squared.mean(columns)), running(column, squared.mean(rows))
            row_BR, column_BC = jnp.expand_dims(row, columns), jnp.expand_dims(column, rows)
            row_factor = jax.lax.rsqrt(row_BR / row_BR.mean(rows, keepdims=True))
            return _One(grad * row_factor * jax.lax.rsqrt(column_BC), row, column, full)

        done = map_with_path(one, updates, state.row, state.column, state.full)
        pick = lambda field: jax.tree.map(lambda result: getattr(result, field), done)  # noqa: E731
        return pick("update"), FactoredState(step, pick("row"), pick("column"), pick("full"))

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass
class _One:
    """One parameter's results; no pytree, so that a tree of them can be taken apart."""

    update: jax.Array
    row: Any
    column: Any
    full: Any


def _rms(array: jax.Array, layout: Layout) -> jax.Array:
    """Root mean square of each stacked block, with its axes kept as ones."""
    return jnp.sqrt(jnp.square(array).mean(layout.block, keepdims=True))


def _clip_by_block(layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
    def clip(path: str, update: jax.Array) -> jax.Array:
        return update / jnp.maximum(1.0, _rms(update, layouts[path]))

    return optax.stateless(lambda updates, params: map_with_path(clip, updates))


def _scale_by_parameter(layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
    def scale(path: str, update: jax.Array, param: jax.Array) -> jax.Array:
        return update * jnp.maximum(_SMALLEST_SCALE, _rms(param, layouts[path]))

    return optax.stateless(lambda updates, params: map_with_path(scale, updates, params))

"""Optimisers as specs: one frame for all of them, and AdamW and SGD in it.

Every optimiser makes the same steps in the same order, and differs only in its direction u:

    g <- g * min(1, clip / |g|)                    the norm over all trained parameters together
    g <- g + noise                                 if chosen
    u <- direction(g)
    p <- p - learning_rate * schedule(n) * multiplier(p) * (u + weight_decay * decay(p) * p)

so that weight decay is decoupled (arXiv:1711.05101) and follows the schedule, as in `optax.adamw` and PyTorch.
"""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from arch.spec import Problem, Spec, SpecError, above, at_least
from train.optim.layout import Layout, layouts
from train.optim.noise import GradientNoise
from train.optim.rules import Rules, decays, dotted, leaves_by_path, pattern_problems, unmatched
from train.optim.schedules import Cosine, Schedule

Params = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ParamGroup:
    """What one parameter gets: the factors of the learning rate and of the weight decay, or nothing if frozen."""

    multiplier: float
    decay: float
    frozen: bool


@dataclasses.dataclass(frozen=True)
class Optimizer(Spec, abc.ABC):
    """Base of the optimisers.

    Attributes:
      learning_rate: the peak; the schedule multiplies it.
      schedule: a multiplier in [0, 1] over the run.
      clip: the largest global norm of the gradient, None for no clipping.
      weight_decay: decoupled, multiplied by the learning rate.
      decay: factors of the weight decay by parameter path. None: 1 for matrices, 0 for gains, biases and lookup tables
        (embeddings, learned positions, codebooks), by the role that each was made with.
      multipliers: factors of the learning rate by parameter path. None: 1 for all.
      freeze: patterns of the paths of parameters that stay as they are, with no optimiser state.
      noise: added to the clipped gradient; None: none.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = Cosine(warmup=0.02)
    clip: float | None = 1.0
    weight_decay: float = 0.0
    decay: Rules | None = None
    multipliers: Rules | None = None
    freeze: tuple[str, ...] = ()
    noise: GradientNoise | None = None

    # Whether the direction treats matrices as such, and so must know how an array reads as matrices.
    needs_axes: ClassVar[bool] = False

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "learning_rate", "weight_decay")
        yield from above(self, 0, "clip")
        for index, pattern in enumerate(self.freeze):
            yield from pattern_problems(f"freeze.{index}", pattern)

    @abc.abstractmethod
    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        """The transformation of clipped gradients to the direction of descent, before learning rate and decay."""

    def param_groups(
        self, params: Params, axes: Params | None = None, *, roles: Mapping[str, str]
    ) -> dict[str, ParamGroup]:
        """Parameter path -> treatment. Raises `SpecError` for rules that leave a parameter over or match none."""
        return self._treatments(layouts(params, axes, roles))

    def frozen(self, params: Params) -> set[str]:
        """The paths of the parameters that stay as they are. Raises `SpecError` for a pattern that matches none."""
        return self._frozen(list(leaves_by_path(params)))

    def _treatments(self, layouts: Mapping[str, Layout]) -> dict[str, ParamGroup]:
        frozen = self._frozen(list(layouts))
        decay = self.decay.resolve(layouts) if self.decay else {}
        multipliers = self.multipliers.resolve(layouts) if self.multipliers else {}
        return {
            path: ParamGroup(
                multiplier=multipliers.get(path, 1.0) * self.own_multiplier(layout),
                decay=decay[path] if decay else float(decays(layout.role, len(layout.block))),
                frozen=path in frozen,
            )
            for path, layout in layouts.items()
        }

    def own_multiplier(self, layout: Layout) -> float:
        """The optimiser's own factor of a parameter's learning rate, for one that has several directions."""
        return 1.0

    def _frozen(self, paths: list[str]) -> set[str]:
        frozen: set[str] = set()
        for index, pattern in enumerate(self.freeze):
            matched = [path for path in paths if re.search(pattern, path)]
            if not matched:
                raise SpecError(self, [Problem(f"freeze.{index}", pattern, unmatched(paths))])
            frozen.update(matched)
        return frozen

    def build(
        self,
        params: Params,
        steps: int,
        *,
        roles: Mapping[str, str],
        axes: Params | None = None,
        learning_rate: jax.typing.ArrayLike | None = None,
        weight_decay: jax.typing.ArrayLike | None = None,
        seed: jax.typing.ArrayLike = 0,
    ) -> optax.GradientTransformation:
        """The transformation for a run of `steps` updates, of the parameters that are not frozen: neither they nor
        it is called with their gradients.

        Args:
          params: nested dict of arrays or `jax.ShapeDtypeStruct`s; only paths and shapes matter.
          steps: updates in the run.
          roles: what each parameter is for, by path, as `arch.params.metadata` has it. Decides which decay, and which
            are Muon's.
          axes: the parameters' logical axes, a tuple of names for each array in the structure of `params`. Muon and
            Adafactor need them, to tell stacked layers and heads from matrices; for the others they tell a
            stacked vector from a matrix in the default for weight decay.
          learning_rate, weight_decay: in place of the fields; they may be traced, so that an ensemble varies them.
          seed: the run's, of the noise; it may be traced.
        """
        if axes is None and self.needs_axes:
            raise ValueError(f"{type(self).__name__} needs the logical axes of the parameters: build(..., axes=axes)")
        by_path = layouts(params, axes, roles)
        param_groups = self._treatments(by_path)
        rate = self.learning_rate if learning_rate is None else learning_rate
        decay = self.weight_decay if weight_decay is None else weight_decay
        multiplier = self.schedule.build(steps)
        clip = optax.identity() if self.clip is None else optax.clip_by_global_norm(self.clip)
        return optax.chain(
            clip if self.noise is None else optax.chain(clip, self.noise.build(seed)),
            self.direction(by_path),
            _add_decay({path: t.decay for path, t in param_groups.items()}, decay),
            _multiply({path: t.multiplier for path, t in param_groups.items()}),
            optax.scale_by_schedule(lambda count: -multiplier(count) * rate),
        )


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (arXiv:1412.6980; arXiv:1711.05101): m_hat / (sqrt(v_hat) + eps)."""

    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from decay_problems(self, "b1", "b2")
        yield from above(self, 0, "eps")

    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        return promoting(optax.scale_by_adam(self.b1, self.b2, self.eps))


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with momentum as PyTorch has it: m <- momentum * m + g; Nesterov's takes g + momentum * m."""

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from decay_problems(self, "momentum")
        if self.nesterov and not self.momentum:
            yield Problem("nesterov", True, "needs a momentum above 0")

    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        return optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()


def promoting(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` also where dtype promotion is strict: optax raises floats to the power of its integer count."""

    def update(updates: optax.Updates, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params)

    return optax.GradientTransformation(inner.init, update)


def decay_problems(spec: Spec, *fields: str) -> Iterator[Problem]:
    """Problems of fields that are decay rates of a running mean. None passes."""
    for field in fields:
        value = getattr(spec, field)
        if value is not None and not 0 <= value < 1:
            yield Problem(field, value, "must be from 0 to below 1")


def partition(
    transforms: Mapping[str, optax.GradientTransformation], labels: Mapping[str, str]
) -> optax.GradientTransformation:
    """`optax.partition` by parameter path. A transformation keeps state only for the parameters with its label."""

    def label(tree: optax.Params) -> optax.Params:
        return map_with_path(lambda path, _: labels[path], tree)

    return optax.partition(transforms, label)


def map_with_path(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`jax.tree.map` of function(path, leaf, ...) over nested dicts, also over those that optax has masked."""
    return jax.tree_util.tree_map_with_path(lambda keys, *leaves: function(dotted(keys), *leaves), tree, *rest)


def _add_decay(factors: Mapping[str, float], decay: jax.typing.ArrayLike) -> optax.GradientTransformation:
    """u + decay * factor * p, with the factors by parameter path."""

    def add(path: str, update: jax.Array, param: jax.Array) -> jax.Array:
        factor = factors[path]
        return update + jnp.asarray(factor * decay, update.dtype) * param.astype(update.dtype) if factor else update

    return optax.stateless(lambda updates, params: map_with_path(add, updates, params))


def _multiply(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """u * factor, with the factors by parameter path."""

    def multiply(path: str, update: jax.Array) -> jax.Array:
        return update if factors[path] == 1.0 else update * factors[path]

    return optax.stateless(lambda updates, params: map_with_path(multiply, updates))

"""Objectives: what a model is trained to do. An objective owns its targets, its mask and its normaliser."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from arch.spec import Spec


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """Sums over a batch, so that batches, micro-batches and hosts combine exactly.

    Attributes:
      total: sum of the losses of all targets; what is minimised is total / weight.
      weight: sum of the targets' weights.
      sums: name -> further sums, from which `Objective.metrics` makes what is reported.
    """

    total: jax.Array
    weight: jax.Array
    sums: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


LossFunction = Callable[[Any, Mapping[str, jax.Array], jax.Array | None], Loss]
"""`loss(model, batch, dropout key) -> Loss`."""


@dataclasses.dataclass(frozen=True)
class Objective(Spec, abc.ABC):
    """A task: how a batch becomes a loss, and what is reported of it."""

    @abc.abstractmethod
    def build(self, dataset: Any) -> LossFunction:
        """The loss function for batches of `dataset`."""

    @abc.abstractmethod
    def metrics(self, loss: Loss) -> dict[str, jax.Array]:
        """Name -> value from the sums of any number of batches added up. The first is what a run is judged by."""

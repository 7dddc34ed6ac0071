"""Objectives: what a model is trained to do. An objective owns its inputs, its targets, its mask and its normaliser.

It makes `Inputs` and targets from a batch, and a loss from the model's `Output`. The step calls the model, adds the
losses of its parts and reports their metrics: an objective never sees them, and never has to remember.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax

from arch.answers import Sum
from arch.models.base import Inputs, Model, Output
from arch.spec import Spec, SpecError
from train.data.base import Dataset
from train.data.baselines import Baseline
from train.data.description import Description

Batch = Mapping[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """Sums over a batch, so that batches, micro-batches and hosts combine exactly.

    Attributes:
      total: sum of the losses of all targets; what is minimised is total / weight.
      weight: sum of the targets' weights; it depends on the batch alone, not on parameters.
      sums: name -> further sums, from which `Objective.metrics` makes what is reported.
    """

    total: jax.Array
    weight: jax.Array
    sums: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


class Task(NamedTuple):
    """An objective made for some data.

    Attributes:
      prepare: `(batch, keys) -> (inputs, targets)`. `keys` are random keys [B], one a row, which depend on the row and
        the step alone: whatever is drawn from them is the same on any number of devices, hosts and micro-batches. In
        evaluation they depend on the row alone. Targets are any tree of arrays. The models that the objective keeps
        beside (`Objective.frozen`) come as further arguments, by their names.
      loss: `(output, targets) -> Loss`.
      losses: `(output, targets) -> name -> Sum`: what is added to the loss with a weight of its own, as parts of the
        model add to it (`arch.answers`); reported as `loss/NAME`.
      draw: `(model, inputs, targets, keys) -> (inputs, targets)`, for a task whose inputs the model makes itself, such
        as continuations that it is then judged on: what the forward pass reads in place of what `prepare` made. `model`
        is the network; no gradient goes through what it returns here, nor do its losses and statistics count. A row of
        the batch may become several, one after another. Models beside come as for `prepare`. None: nothing is drawn.
    """

    prepare: Callable[..., tuple[Inputs, Any]]
    loss: Callable[[Output, Any], Loss]
    losses: Callable[[Output, Any], Mapping[str, Sum]] = lambda output, targets: {}
    draw: Callable[..., tuple[Inputs, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Objective(Spec, abc.ABC):
    """A task: how a batch becomes a loss, and what is reported of it."""

    demands: ClassVar[tuple[type, ...]] = ()
    """The kinds of model it trains, of those in `arch.models.base`; empty: any."""

    unit: ClassVar[Literal["tokens", "rows"]] = "rows"
    """What the speed of training counts: tokens that the model reads (a pair's target, not its source), or rows."""

    lag: ClassVar[int] = 0
    """How many places before a hidden token the model tells it: 1 where it predicts what follows a place."""

    def extra_tokens(self, description: Description) -> int:
        """How many token ids of its own it uses, of data of this description: the first ones above the data's
        vocabulary, V, V + 1, ... (a mask that the data lacks, sentinels)."""
        return 0

    def mask_token(self, description: Description) -> int | None:
        """The id by which it hides a token, of data of this description; None: it hides none."""
        return None

    def same_targets(self, other: Objective) -> bool:
        """Whether the j-th target of a row is the same token for `other`, of the same batch and keys."""
        return self == other

    def needs(self, description: Description) -> dict[str, tuple[int, str]]:
        """Field of the model -> the least that it must be, and what of the data needs so many. A field that a model
        does not have asks nothing of it. What only building the data can tell is left out."""
        extra, told = self.extra_tokens(description), {}
        more = f" and the {extra} of {type(self).__name__}" if extra else ""
        if description.vocab is not None:
            told["vocab"] = description.vocab + extra, f"the tokens of the data{more}"
        if description.source_vocab is not None:
            told["source_vocab"] = description.source_vocab, "the source tokens of the data"
        if description.classes is not None:
            told["classes"] = description.classes, "the classes of the data"
        return told

    def unfit(self, model: Model, description: Description) -> Iterator[SpecError]:
        """What of `model` does not suit it on data of this description: what it `needs`, and its `refusals`."""
        for field, (least, what) in self.needs(description).items():
            if getattr(model, field, least) < least:
                yield model.invalid(field, f"must be at least {least}, {what}")
        yield from self.refusals(model)

    def refusals(self, model: Model) -> Iterator[SpecError]:
        """What of a model of the right kind does not suit it, whatever the data."""
        return iter(())

    @property
    def frozen(self) -> Mapping[str, Any]:
        """Name -> a trained model (`train.starts.frozen.Pretrained`) that it reads and that is not trained;
        `Task.prepare` is given it by that name."""
        return {}

    @abc.abstractmethod
    def build(self, description: Description) -> Task:
        """The task on data of this description."""

    @abc.abstractmethod
    def metrics(self, loss: Loss) -> dict[str, jax.Array]:
        """Name -> value from the sums of any number of batches added up. The first is what a run is judged by."""

    def baselines(self, dataset: Dataset, split: str) -> tuple[Baseline, ...]:
        """What models that count the training rows reach on `split`, in the metrics of this objective; none here."""
        return ()

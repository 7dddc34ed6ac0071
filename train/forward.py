"""The model on rows of a batch, through the objective: what every tool that looks at a model calls it by.

Random keys: the model's key is one for all rows; the objective's are one a row, made of `rows_key` and the row's number
alone, so that what an objective draws does not depend on devices, hosts or micro-batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arch.answers import Sum
from arch.models.base import Inputs, Output
from arch.params import merge
from arch.sharding import Placement, activations
from arch.spec import UserError
from train.objectives.base import Loss, Objective, Task
from train.starts.beside import Arrays, Graphs

Params = Mapping[str, Any]
Batch = Mapping[str, jax.Array]

OWN = ("grad_norm", "learning_rate", "weight", "finite")
"""What the step itself reports."""

ROW = "row"
"""The array of a batch that numbers its rows: in the batch while training, in the split in evaluation."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """What a pass over rows adds up to: the objective's loss, what the model's parts noted, and how many tokens the
    model read (float32 scalar; sources count, padding does not)."""

    loss: Loss
    losses: Mapping[str, Sum]
    metrics: Mapping[str, Sum]
    statistics: Mapping[str, Any]
    read: jax.Array


@dataclasses.dataclass(frozen=True)
class Forward:
    """One pass.

    Attributes:
      graphdef: the model without its parameters and buffers.
      task: the objective on the data.
      placement: where activations go on the mesh; None: nowhere in particular.
      beside: the models that the objective keeps beside the trained one.
      frozen: their arrays.
    """

    graphdef: Any
    task: Task
    placement: Placement | None = None
    beside: Graphs = Graphs()
    frozen: Arrays = dataclasses.field(default_factory=dict)

    def holding(self, frozen: Arrays) -> Forward:
        """The pass with these arrays of the models beside."""
        return dataclasses.replace(self, frozen=frozen)

    def prepared(self, arrays: Batch, keys: jax.Array) -> tuple[Inputs, Any]:
        """Inputs and targets of rows, each with its random key."""
        return self.task.prepare(arrays, keys, **self.beside.models(self.frozen))

    def still(self, frozen: Arrays, batch: Batch) -> tuple[Inputs, Any]:
        """What comes before the model on rows that are not numbered, which no gradient goes through."""
        batch = numbered(batch)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch[ROW])
        return self.holding(frozen).prepared({name: array for name, array in batch.items() if name != ROW}, keys)

    def __call__(
        self,
        params: Params,
        buffers: Params,
        batch: Batch,
        key: jax.Array | None,
        rows_key: jax.Array,
        *,
        training: bool,
        **looks: Any,
    ) -> tuple[Sums, Output]:
        """The sums over a batch, and the model's output.

        Args:
          params, buffers: of the model, in the type of the computation.
          batch: what the objective reads; its rows are numbered (`numbered`).
          key: the model's; None: nothing is random in it.
          rows_key: what the keys of rows are made of.
          training: as in a model's call.
          looks: `tap` and `gates`, as in a model's call.
        """
        with contextlib.nullcontext() if self.placement is None else activations(self.placement):
            inputs, targets = self.inputs(params, buffers, batch, rows_key)
            model = merge(self.graphdef, params, buffers)
            output: Output = model(inputs, training=training, key=key, **looks)
            loss, own = self.task.loss(output, targets), self.task.losses(output, targets)
        return Sums(loss, {**output.losses, **own}, output.metrics, output.statistics, tokens_read(inputs)), output

    def inputs(self, params: Params, buffers: Params, batch: Batch, rows_key: jax.Array) -> tuple[Inputs, Any]:
        """What the model reads of a batch, drawn from the model itself where the task does, and the targets."""
        arrays = {name: array for name, array in batch.items() if name != ROW}
        keys = jax.vmap(jax.random.fold_in, (None, 0))(rows_key, batch[ROW])
        inputs, targets = self.prepared(arrays, keys)
        if self.task.draw is None:
            return inputs, targets
        model = merge(self.graphdef, *jax.lax.stop_gradient((params, buffers)))
        drawn = self.task.draw(model, inputs, targets, keys, **self.beside.models(self.frozen))
        return jax.lax.stop_gradient(drawn)


def tokens_read(inputs: Inputs) -> jax.Array:
    """How many tokens a model is given, of a source and of the other row of a pair too; float32, without padding."""
    total = jnp.zeros((), jnp.float32)
    for one in (inputs, inputs.source, inputs.second):
        if one is not None and one.segments is not None:
            total += jnp.sum((one.segments > 0).astype(jnp.float32))
        elif one is not None and one.tokens is not None:
            total += jnp.float32(one.tokens.size)
    return total


def report(objective: Objective, sums: Sums) -> dict[str, jax.Array]:
    """Name -> value: the objective's metrics, `loss/NAME` of each part's loss summed over layers, and each part's
    metrics, the mean over layers. Of an objective that counts tokens also `target_fraction`: targets, each with its
    weight, over tokens read."""
    told = objective.metrics(sums.loss)
    if objective.unit == "tokens":
        told = {**told, "target_fraction": sums.loss.weight / jnp.maximum(sums.read, 1.0)}
    parts = {f"loss/{name}": jnp.sum(one.value) for name, one in sums.losses.items()}
    parts |= {name: jnp.mean(one.value) for name, one in sums.metrics.items()}
    twice = sorted(set(parts) & {*told, *OWN})
    if twice:
        raise UserError(f"{', '.join(twice)}: a part of the model reports what the objective or the step does; give "
                        "it another name")  # fmt: skip
    return told | parts


def numbered(batch: Batch) -> Batch:
    """The batch with its rows numbered, if they are not."""
    if ROW in batch:
        return batch
    rows = jax.tree.leaves(dict(batch))[0].shape[0]
    return {**batch, ROW: jnp.arange(rows, dtype=jnp.int32)}

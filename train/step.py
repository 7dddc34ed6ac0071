"""One training step and one evaluation step, as pure functions of a plain tree.

The state is `{"step": int32, "params": ..., "opt_state": ...}`. A batch may be cut into micro-batches: their losses and
gradients are added as sums and divided by the total weight once, which equals one large batch. So are those of devices
that split nothing but rows, where that is faster than leaving it to the compiler (`MeshPlacement.adds_rows`). A step
whose loss or gradient is not finite leaves the state as it was, and so do all steps after it (`go`), so that the
failure can be examined with the parameters that caused it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.interpreters import partial_eval

from arch.sharding import activations, constrain
from train.mesh import MeshPlacement
from train.objectives.base import Loss, LossFunction, Objective

Params = Mapping[str, Any]
State = dict[str, Any]
Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Learner:
    """Everything a step needs beside the state and the batch.

    Attributes:
      graphdef: the model without its parameters.
      loss: the objective's loss function.
      objective: names the sums of the loss.
      tx: the optimiser.
      rate: index of the update -> learning rate.
      accumulate: micro-batches in a step.
      seed: of dropout.
      dtype: type of the computation; parameters, gradients' sums and updates are float32.
      placement: where activations go on the mesh.
    """

    graphdef: Any
    loss: LossFunction
    objective: Objective
    tx: optax.GradientTransformation
    rate: Callable[[jax.Array], jax.Array]
    accumulate: int
    seed: int
    dtype: Any
    placement: MeshPlacement

    def start(self, params: Params) -> State:
        """The state of a run that begins with `params`."""
        return {"step": jnp.zeros((), jnp.int32), "params": params, "opt_state": self.tx.init(params)}

    def key(self, step: jax.Array) -> jax.Array:
        """The dropout key of the update with index `step`."""
        return jax.random.fold_in(jax.random.key(self.seed), step)

    def cast(self, params: Params) -> Params:
        """The parameters in the type of the computation."""
        return jax.tree.map(lambda p: p.astype(self.dtype) if jnp.issubdtype(p.dtype, jnp.floating) else p, params)

    def losses(self, params: Params, batch: Batch, key: jax.Array | None) -> Loss:
        """The loss of one micro-batch with parameters that are already cast."""
        with activations(self.placement):
            return self.loss(nnx.merge(self.graphdef, params), batch, key)

    def micro_batches(self, batch: Batch) -> Batch:
        """[B, ...] -> [accumulate, B / accumulate, ...]. Rows are dealt out in turn, so none changes its device."""

        def cut(array: jax.Array) -> jax.Array:
            rows = array.reshape(-1, self.accumulate, *array.shape[1:]).swapaxes(0, 1)
            return constrain(rows, (None, "batch") + (None,) * (array.ndim - 1))

        with activations(self.placement):
            return {name: cut(array) for name, array in batch.items()}

    def sums(self, params: Params, batch: Batch, key: jax.Array) -> tuple[Loss, Params]:
        """The sums of the loss over the batch, and the gradient of its total, float32."""
        compute = self.cast(params)

        def one(micro: Batch, key: jax.Array) -> tuple[Loss, Params]:
            def total(compute: Params) -> tuple[jax.Array, Loss]:
                loss = self.losses(compute, micro, key)
                return loss.total, loss

            grads, loss = jax.grad(total, has_aux=True)(compute)
            return loss, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)

        def add(carry: tuple[Loss, Params], inputs: tuple[Batch, jax.Array]) -> tuple[tuple[Loss, Params], None]:
            micro, index = inputs
            return jax.tree.map(jnp.add, carry, one(micro, jax.random.fold_in(key, index))), None

        if self.accumulate == 1:
            return one(batch, key)
        micros = self.micro_batches(batch)
        shapes = jax.eval_shape(one, {name: micro[0] for name, micro in micros.items()}, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(add, zeros, (micros, jnp.arange(self.accumulate)))[0]

    def gradients(self, params: Params, batch: Batch, step: jax.Array) -> tuple[Loss, Params]:
        """The sums of the loss over the batch, and the gradient of total / weight, float32."""
        key = self.key(step)
        if self.placement.adds_rows and not self.draws(params, batch, key):
            alone = self.alone()
            loss, grads = self.placement.add_rows(lambda params, rows: alone.sums(params, rows, key), params, batch)
        else:
            loss, grads = self.sums(params, batch, key)
        # A factor, not a division: XLA's CPU backend divides in passes of their own, and multiplies in the update's.
        factor = 1 / divisor(loss.weight)
        return loss, jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)

    def alone(self) -> Learner:
        """What each device runs on its own rows."""
        return dataclasses.replace(self, placement=self.placement.alone())

    def draws(self, params: Params, batch: Batch, key: jax.Array) -> bool:
        """Whether the loss depends on its key: rows that are split then do not draw what they draw together."""
        jaxpr = jax.make_jaxpr(self.losses)(params, batch, key).jaxpr
        return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1][-1]

    def train_step(self, state: State, batch: Batch, go: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One update.

        Args:
          state: may be donated.
          batch: arrays of B rows.
          go: bool scalar, the `finite` of the step before: a state that has met a bad step changes no more.

        Returns:
          The new state, and scalars: the objective's metrics of this batch, `grad_norm` (before clipping),
          `learning_rate`, `weight` (of the targets) and `finite`.
        """
        params = state["params"]
        loss, grads = self.gradients(params, batch, state["step"])
        norm = optax.tree.norm(grads)
        finite = go & jnp.isfinite(loss.total) & jnp.isfinite(norm)
        updates, opt_state = self.tx.update(grads, state["opt_state"], params)
        new = {"step": state["step"] + 1, "params": optax.apply_updates(params, updates), "opt_state": opt_state}
        metrics = {
            **self.objective.metrics(loss),
            "grad_norm": norm,
            "learning_rate": self.rate(state["step"]),
            "weight": loss.weight,
            "finite": finite,
        }
        # A select with a scalar condition fuses into the loops that write the update.
        return jax.tree.map(lambda a, b: jax.lax.select(finite, a, b), new, state), metrics

    def eval_step(self, params: Params, batch: Batch) -> Loss:
        """The sums of the loss over a batch, without dropout."""
        if not self.placement.adds_rows:
            return self.losses(self.cast(params), batch, None)
        alone = self.alone()
        return self.placement.add_rows(lambda params, rows: alone.eval_step(params, rows), params, batch)


def divisor(weight: jax.Array) -> jax.Array:
    """The weight, or 1 where it is 0: a batch of nothing but padding has no gradient rather than a bad one."""
    return jnp.where(weight > 0, weight, jnp.ones_like(weight))

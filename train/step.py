"""One training step and one evaluation step, as pure functions of a plain tree.

The state is `{"step": int32, "params": ..., "buffers": ..., "opt_state": ...}`. A batch may be cut into micro-batches:
their losses, metrics, statistics and gradients are added as sums and divided by the total weight once, which equals one
large batch. So are those of devices that split nothing but rows, where that is faster than leaving it to the compiler
(`MeshPlacement.adds_rows`). A step whose loss or gradient is not finite leaves the state as it was, and so do all steps
after it (`go`), so that the failure can be examined with the parameters that caused it.

What is minimised is total / weight of the objective plus total / weight of each loss of a part. Their
weights over the whole batch are known before the gradient is taken: they depend on the batch, not on the parameters, so
that all but what counts them is cut out of the forward pass that gives them (`StepFunctions.weights`).

The model's random key is one a step and micro-batch; the objective's are one a row, of the step and the place of the
row in the batch, or, in evaluation, of the number of the row in its split alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from arch.buffers import advance
from arch.models.base import Output
from arch.params import merge
from arch.sharding import RowsCoupled, activations, constrain
from train.forward import Batch, Forward, Params, Sums, numbered, report
from train.objectives.base import Objective
from train.runtime.internals import without_unused
from train.sharding.placement import MeshPlacement
from train.starts.beside import Arrays
from train.trees import Split, join
from train.weighing import Factors, divisor, factors, pruned

State = dict[str, Any]

OBJECTIVE, EVALUATION = 0x0B, 0xE7A1
"""Folded into the keys of rows, so that they are not the model's, and the same in every evaluation."""


@dataclasses.dataclass(frozen=True)
class StepFunctions:
    """Everything a step needs beside the state and the batch.

    Attributes:
      forward: the model through the objective on the data, with activations where they go on the mesh.
      objective: names the sums of the loss.
      tx: the optimiser of the parameters that are trained.
      split: which parameters those are.
      rate: index of the update -> learning rate.
      accumulate: micro-batches in a step.
      taken: index of the update -> how many of them it takes, the first ones; None: all.
      seed: of dropout and of the objective's draws.
      dtype: type of the computation; parameters, buffers, gradients' sums and updates are float32.
    """

    forward: Forward
    objective: Objective
    tx: optax.GradientTransformation
    split: Split
    rate: Callable[[jax.Array], jax.Array]
    accumulate: int
    seed: int
    dtype: Any
    taken: Callable[[jax.Array], jax.Array] | None = None

    def holding(self, frozen: Arrays | None = None) -> StepFunctions:
        """The steps with the arrays of the frozen models that the objective reads, if it reads any."""
        return dataclasses.replace(self, forward=self.forward.holding(frozen)) if frozen else self

    @property
    def placement(self) -> MeshPlacement:
        """Where activations go on the mesh."""
        placement = self.forward.placement
        assert isinstance(placement, MeshPlacement)
        return placement

    def start(self, params: Params, buffers: Params) -> State:
        """The state of a run that begins with these."""
        opt_state = self.tx.init(self.split(params)[0])
        return {"step": jnp.zeros((), jnp.int32), "params": params, "buffers": buffers, "opt_state": opt_state}

    def key(self, step: jax.Array) -> jax.Array:
        """The key of the update with index `step`."""
        return jax.random.fold_in(jax.random.key(self.seed), step)

    def cast(self, params: Params) -> Params:
        """The parameters in the type of the computation."""
        return jax.tree.map(lambda p: p.astype(self.dtype) if jnp.issubdtype(p.dtype, jnp.floating) else p, params)

    def micro_batches(self, batch: Batch) -> Batch:
        """[B, ...] -> [accumulate, B / accumulate, ...]. Rows are dealt out in turn, so none changes its device."""

        def cut(array: jax.Array) -> jax.Array:
            rows = array.reshape(-1, self.accumulate, *array.shape[1:]).swapaxes(0, 1)
            return constrain(rows, (None, "batch") + (None,) * (array.ndim - 1))

        with activations(self.placement):
            return {name: cut(array) for name, array in batch.items()}

    def micro_batch(self, batch: Batch, key: jax.Array, index: Any) -> tuple[Batch, jax.Array]:
        """Micro-batch `index` of a batch, and the model's key for it."""
        if self.accumulate == 1:
            return batch, key
        rows = {name: array[index] for name, array in self.micro_batches(batch).items()}
        return rows, jax.random.fold_in(key, index)

    def _over(self, fn: Callable[[Batch, jax.Array], Any], batch: Batch, key: jax.Array, turns: Any = None) -> Any:
        """The sum of `fn(micro-batch, the model's key)` over the micro-batches, or over the first `turns` of them."""

        def add(carry: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            micro, index = inputs
            return jax.tree.map(jnp.add, carry, fn(micro, jax.random.fold_in(key, index))), None

        micros = self.micro_batches(batch)
        shapes = jax.eval_shape(fn, {name: micro[0] for name, micro in micros.items()}, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        if turns is None:
            return jax.lax.scan(add, zeros, (micros, jnp.arange(self.accumulate)))[0]

        def one(index: jax.Array, carry: Any) -> Any:
            return add(carry, ({name: micro[index] for name, micro in micros.items()}, index))[0]

        return jax.lax.fori_loop(0, turns, one, zeros)

    def weights(
        self, params: Params, buffers: Params, batch: Batch, key: jax.Array, turns: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """The weight of the objective over these rows, and that of each loss of a part, by name."""
        rows_key, compute = jax.random.fold_in(key, OBJECTIVE), self.cast(params)

        def of(micro: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            def run(micro: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
                sums, _ = self.forward(compute, buffers, micro, key, rows_key, training=True)
                return sums.loss.weight, {name: one.weight for name, one in sums.losses.items()}

            return pruned(run)(micro, key)

        return of(batch, key) if self.accumulate == 1 else self._over(of, batch, key, turns)

    def sums(
        self,
        params: Params,
        buffers: Params,
        batch: Batch,
        key: jax.Array,
        shared: Factors | None,
        turns: jax.Array | None = None,
    ) -> tuple[Sums, Params]:
        """The sums over the batch, and the gradient of the objective's total plus factors times the parts' totals.

        The gradient is of the trained parameters, float32. `shared` are the factors of the whole batch; None: these
        rows are all of it. `turns`: how many micro-batches are summed over; None: all.
        """
        rows_key = jax.random.fold_in(key, OBJECTIVE)
        trained, frozen = self.split(params)
        compute, still = self.cast(trained), self.cast(frozen)

        def one(micro: Batch, key: jax.Array) -> tuple[Sums, Params]:
            def total(compute: Params) -> tuple[jax.Array, Sums]:
                sums, _ = self.forward(join(compute, still), buffers, micro, key, rows_key, training=True)
                return self.total(sums, shared), sums

            grads, sums = jax.grad(total, has_aux=True)(compute)
            return sums, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, trained)

        return one(batch, key) if self.accumulate == 1 else self._over(one, batch, key, turns)

    @staticmethod
    def total(sums: Sums, by: Factors | None = None) -> jax.Array:
        """The objective's total plus factors times those of the parts; None: those of the rows that were summed."""
        if by is None:
            by = factors(sums.loss.weight, {name: loss.weight for name, loss in sums.losses.items()})
        value = sums.loss.total
        for name, loss in sums.losses.items():
            value = value + jnp.sum(jax.lax.stop_gradient(by[name]) * loss.total)
        return value

    def gradients(self, params: Params, buffers: Params, batch: Batch, step: jax.Array) -> tuple[Sums, Params]:
        """The sums over the batch, and the gradient of what is minimised, float32, of the trained parameters."""
        key = self.key(step)
        batch, turns = numbered(batch), None if self.taken is None else self.taken(step)
        apart = self.rows_apart(params, buffers, batch, key) if self.placement.adds_rows else None
        if apart is not None:
            sums, grads = self._each_alone(params, buffers, batch, key, turns, weigh=bool(apart.losses))
        else:
            shared = None
            if self.accumulate > 1 and jax.eval_shape(self.probe, params, buffers, batch, key)[0].losses:
                shared = factors(*self.weights(params, buffers, batch, key, turns))
            sums, grads = self.sums(params, buffers, batch, key, shared, turns)
        # A factor, not a division: XLA's CPU backend divides in passes of their own, and multiplies in the update's.
        factor = 1 / divisor(sums.loss.weight)
        return sums, jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)

    def _each_alone(
        self, params: Params, buffers: Params, batch: Batch, key: jax.Array, turns: jax.Array | None, *, weigh: bool
    ) -> tuple[Sums, Params]:
        """`sums` by every device on its own rows, added up. `weigh`: parts have losses, whose weights come first."""
        alone, add_rows, shared = self.alone(), self.placement.add_rows, None
        # All that the rows are worked on with goes in as an argument: under `vmap` each device gets its replicas' own.
        if weigh:
            weights = lambda whole, rows: alone.holding(whole[4]).weights(whole[0], whole[1], rows, *whole[2:4])  # noqa: E731
            shared = factors(*add_rows(weights, (params, buffers, key, turns, self.forward.frozen), batch))
        add = lambda whole, rows: alone.holding(whole[5]).sums(whole[0], whole[1], rows, *whole[2:5])  # noqa: E731
        return add_rows(add, (params, buffers, key, shared, turns, self.forward.frozen), batch)

    def alone(self) -> StepFunctions:
        """What each device runs on its own rows."""
        return dataclasses.replace(self, forward=dataclasses.replace(self.forward, placement=self.placement.alone()))

    def probe(self, params: Params, buffers: Params, batch: Batch, key: jax.Array) -> tuple[Sums, Output]:
        """`forward` of the whole batch at once, to be traced for its structure."""
        return self.forward(self.cast(params), buffers, batch, key, key, training=True)

    def rows_apart(self, params: Params, buffers: Params, batch: Batch, key: jax.Array | None) -> Sums | None:
        """The sums, in shapes, if those of all rows are those of each device's own added up; else None.

        They are where nothing depends on several rows together, and the model draws nothing from its key, which rows
        that are split would not draw as they do together.
        """
        training, alone = key is not None, self.alone()
        anything = jax.random.key(0) if key is None else key

        def run(params: Params, buffers: Params, batch: Batch, key: jax.Array) -> tuple[Sums, Output]:
            told = alone.cast(params), buffers, batch, key if training else None, anything
            return alone.forward(*told, training=training)

        try:
            closed, (sums, _) = jax.make_jaxpr(run, return_shape=True)(params, buffers, batch, anything)
        except RowsCoupled:
            return None
        if any(one.coupled for one in (*sums.losses.values(), *sums.metrics.values())):
            return None
        draws = without_unused(closed)[1][-1]
        return None if training and draws else sums

    def train_step(self, state: State, batch: Batch, go: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One update.

        Args:
          state: may be donated.
          batch: arrays of B rows.
          go: bool scalar, the `finite` of the step before: a state that has met a bad step changes no more.

        Returns:
          The new state, and scalars: the objective's and the parts' metrics of this batch, `grad_norm` (before
          clipping, of the trained parameters), `learning_rate`, `weight` (of the targets) and `finite`.
        """
        params, buffers = state["params"], state["buffers"]
        sums, grads = self.gradients(params, buffers, batch, state["step"])
        norm = optax.tree.norm(grads)
        finite = go & jnp.isfinite(sums.loss.total) & jnp.isfinite(norm)
        for leaf in jax.tree.leaves((sums.losses, sums.statistics)):
            finite &= jnp.all(jnp.isfinite(leaf))
        trained, frozen = self.split(params)
        updates, opt_state = self.tx.update(grads, state["opt_state"], trained)
        new = {
            "step": state["step"] + 1,
            "params": join(optax.apply_updates(trained, updates), frozen),
            "buffers": advance(merge(self.forward.graphdef, params, buffers), buffers, sums.statistics),
            "opt_state": opt_state,
        }
        metrics = {
            **report(self.objective, sums),
            "grad_norm": norm,
            "learning_rate": self.rate(state["step"]),
            "weight": sums.loss.weight,
            "finite": finite,
        }
        # A select with a scalar condition fuses into the loops that write the update.
        return jax.tree.map(lambda a, b: jax.lax.select(finite, a, b), new, state), metrics

    def eval_step(self, params: Params, buffers: Params, batch: Batch) -> Sums:
        """The sums over a batch in evaluation; `batch["row"]` numbers its rows in their split."""
        rows_key, batch = jax.random.key(EVALUATION), numbered(batch)
        if not self.placement.adds_rows or self.rows_apart(params, buffers, batch, None) is None:
            return self.evaluated(params, buffers, batch, rows_key)
        alone = self.alone()
        return self.placement.add_rows(
            lambda whole, rows: alone.holding(whole[2]).evaluated(whole[0], whole[1], rows, rows_key),
            (params, buffers, self.forward.frozen),
            batch,
        )

    def evaluated(self, params: Params, buffers: Params, batch: Batch, rows_key: jax.Array) -> Sums:
        """`eval_step` of one device, or of all under one compiler. Statistics are left out: buffers stay."""
        sums, _ = self.forward(self.cast(params), buffers, batch, None, rows_key, training=False)
        return dataclasses.replace(sums, statistics={})

"""What a run would take, without running it: FLOPs from the model's program, memory from the compiled step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from arch import cost
from arch.params import split
from train.forward import Forward, numbered
from train.run import Run
from train.setup import prepare
from train.starts.beside import graphs


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One training step of a run.

    Attributes:
      flops: model FLOPs of the whole step, over all devices.
      state_bytes: parameters and optimiser state on one device.
      temporary_bytes: activations, gradients and work space on one device, at their peak.
      counted: what a step has of what the objective counts: ("tokens" or "rows", how many).
    """

    flops: int
    state_bytes: int
    temporary_bytes: int
    counted: tuple[str, int]


def row_flops(run: Run) -> int:
    """FLOPs of one row forward through model and objective; a training step is three times that, a row. Those of frozen
    models, which go forward alone, count a third."""
    graphdef, params, buffers = split(run.abstract_model())
    beside, frozen = graphs(run.objective.frozen)
    forward = Forward(graphdef, run.objective.build(run.data.describe()), beside=beside)
    key, batch = jax.eval_shape(lambda: jax.random.key(0)), _batch(run, 1)

    def loss(frozen: Any, params: Any, buffers: Any, batch: Any, key: Any) -> Any:
        sums, _ = forward.holding(frozen)(params, buffers, numbered(batch), None, key, training=False)
        return sums.loss.total, sums.losses

    still = cost.flops(forward.still, frozen, batch)
    return cost.flops(loss, frozen, params, buffers, batch, key) - 2 * still // 3


def _batch(run: Run, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of the run in shapes."""
    return {name: jax.ShapeDtypeStruct(*kind) for name, kind in run.data.describe().batch(rows).items()}


def estimate(run: Run) -> Estimate:
    """Compiles the step of `run` for the devices at hand and reads what XLA plans. The data is not touched."""
    program = prepare(run, run.data.describe())
    batch: Any = _batch(run, run.batch)
    go = jax.ShapeDtypeStruct((), jnp.bool_)
    step: Any = program.train_step  # a jitted function, which can be compiled for shapes alone
    memory = step.lower(program.abstract, batch, go).compile().memory_analysis()
    return Estimate(program.step_flops(batch), memory.argument_size_in_bytes, memory.temp_size_in_bytes,
                    program.counted)  # fmt: skip

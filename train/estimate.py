"""What a run would take, without running it: FLOPs from the model's program, memory from the compiled step."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch import cost
from train.run import Run
from train.setup import prepare


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One training step of a run.

    Attributes:
      flops: model FLOPs of the whole step, over all devices.
      state_bytes: parameters and optimiser state on one device.
      temporary_bytes: activations, gradients and work space on one device, at their peak.
    """

    flops: int
    state_bytes: int
    temporary_bytes: int


def row_flops(run: Run) -> int:
    """FLOPs of one row forward through model and objective; a training step is three times that, a row."""
    module = run.abstract_model()
    graphdef, params = nnx.split(module, nnx.Param)
    loss = run.objective.build(_stand_in(run))
    batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in run.data.describe().batch(1).items()}
    return cost.flops(lambda p, b: loss(nnx.merge(graphdef, p), b, None).total, nnx.to_pure_dict(params), batch)


def _stand_in(run: Run) -> Any:
    """A data set for programs that are never run."""
    vocab = getattr(run.model, "vocab", 0)
    return types.SimpleNamespace(vocab=vocab, token_bytes=np.ones(vocab, np.float32))


def estimate(run: Run) -> Estimate:
    """Compiles the step of `run` for the devices at hand and reads what XLA plans. The data is not touched."""
    program = prepare(run, _stand_in(run))
    arrays = run.data.describe().batch(run.batch)
    batch: Any = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in arrays.items()}
    go = jax.ShapeDtypeStruct((), jnp.bool_)
    step: Any = program.train_step  # a jitted function, which can be compiled for shapes alone
    memory = step.lower(program.abstract, batch, go).compile().memory_analysis()
    return Estimate(program.step_flops(batch), memory.argument_size_in_bytes, memory.temp_size_in_bytes)

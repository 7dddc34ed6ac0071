"""Compiles a run's training step for TPUs that are not there, with the compiler that runs on them.

    pip install libtpu                      # the version that jax[tpu] asks for
    python -m bench.tpu_compile [--config=experiments/base_lm.py] [--topology=v5e:4x4] [--fsdp=4] [--tensor=1]

Prints memory and time for one device, and whether attention went through a kernel.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.experimental import topologies

from experiments.config.load import load
from train import setup
from train.run import Run

CONFIG = flags.DEFINE_string("config", "experiments/base_lm.py", "FILE.py[:FORM] of a run.")
TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "Chips, as JAX names them.")
FSDP = flags.DEFINE_integer("fsdp", 4, "The mesh; `data` takes what is left.")
TENSOR = flags.DEFINE_integer("tensor", 1, "The mesh.")


def compiled(run: Run, devices: Any) -> Any:
    """The compiled step of `run` on `devices`."""
    vocab = run.model.vocab
    data = dataclasses.replace(run.data.describe(), vocab=vocab, token_bytes=np.ones(vocab, np.float32))
    program = setup.prepare(run, data, devices=devices)
    arrays = data.batch(run.batch)
    batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in arrays.items()}
    step: Any = program.train_step
    return step.lower(program.abstract, batch, jax.ShapeDtypeStruct((), jnp.bool_)).compile()


def main(argv: list[str]) -> None:
    run = load(CONFIG.value).spec
    assert isinstance(run, Run), f"{CONFIG.value} is no run"
    devices = topologies.get_topology_desc(TOPOLOGY.value, platform="tpu").devices
    run = dataclasses.replace(run, mesh=dataclasses.replace(run.mesh, fsdp=FSDP.value, tensor=TENSOR.value))
    start = time.perf_counter()
    step = compiled(run, devices)
    memory, gib = step.memory_analysis(), 2.0**30
    kernels = step.as_text().count('custom_call_target="tpu_custom_call"')
    print(f"{CONFIG.value} on {TOPOLOGY.value}, fsdp={FSDP.value} tensor={TENSOR.value}")
    print(f"compiled in {time.perf_counter() - start:.0f} s; {kernels} Pallas kernels")
    state, work = memory.argument_size_in_bytes / gib, memory.temp_size_in_bytes / gib
    print(f"one device: {state:.2f} GiB state, {work:.2f} GiB work space")


if __name__ == "__main__":
    app.run(main)

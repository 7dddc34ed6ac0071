"""What a run says of FLOPs that cannot be counted."""

import types

import jax
import jax.numpy as jnp

from arch import cost
from tests.train import toys
from train.record.metrics import read
from train.record.reporter import Reporter


def test_flops_that_cannot_be_counted_are_left_out_with_a_line(tmp_path, capfd):
    def step_flops(batch):
        return cost.flops(jnp.fft.fft, batch["tokens"])

    mesh = types.SimpleNamespace(devices=jax.devices())
    program = types.SimpleNamespace(run=toys.run(steps=2), mesh=mesh, step_flops=step_flops, counted=("tokens", 4))
    batch = {"tokens": jnp.ones((2, 3), jnp.int32)}
    with Reporter(program, tmp_path, 0) as reporter:
        for step in (1, 2):
            reporter.step(step, {"loss": jnp.float32(1.0)}, batch)
    lines = [line for line in capfd.readouterr().out.splitlines() if "mfu" in line]
    assert len(lines) == 1
    assert "train/mfu is left out: cannot count the FLOPs of fft;" in lines[0]
    assert [line["train/loss"] for line in read(tmp_path)] == [1.0, 1.0]
    assert not any("train/mfu" in line for line in read(tmp_path))

"""Replicas as one program against as many runs one after another: the same work.

    python -m bench.ensemble [--sizes=230k,5M] [--replicas=12] [--precisions=float32,bfloat16] [--rounds=7]
    python -m bench.ensemble --device=gpu --sizes=5M --replicas=12,48 --precisions=bfloat16

Replicas differ in seed and learning rate and read batches of their own, as the seeds of a study do. `mesh` spreads them
over the devices: on several GPUs or TPU chips, or over the cores of a CPU, one virtual device a core.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from absl import app, flags

from bench.alternate import alternate, table
from bench.machine import choose, cores, processor

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()
SIZES = flags.DEFINE_list("sizes", ["230k", "5M"], "Which models.", flag_values=FLAGS)
REPLICAS = flags.DEFINE_list("replicas", ["12"], "How many.", flag_values=FLAGS)
PRECISIONS = flags.DEFINE_list("precisions", ["float32"], "Of the computation.", flag_values=FLAGS)
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Runs of each contestant, alternating.", flag_values=FLAGS)

SHAPES: dict[str, dict[str, int]] = {
    "toy": {"width": 32, "depth": 2, "heads": 2, "hidden": 64, "vocab": 256, "length": 16},
    "230k": {"width": 64, "depth": 4, "heads": 4, "hidden": 168, "vocab": 256, "length": 128},
    "5M": {"width": 256, "depth": 6, "heads": 4, "hidden": 688, "vocab": 1024, "length": 256},
}
BATCH = 8


def replicas(argument: dict[str, Any]) -> Callable[[], None]:
    """One step of every replica: in one program, or one after another if `together` is false."""
    import jax

    if argument["devices"] > 1:
        jax.config.update("jax_num_cpu_devices", argument["devices"])
    import numpy as np

    from arch.blocks import PreNorm
    from arch.layers.attention.softmax import Attention
    from arch.layers.feed_forward import GatedMLP
    from arch.models.decoder import Decoder
    from arch.stacks import Sequential
    from train.data.text import Text
    from train.ensemble import Ensemble
    from train.optim.optimizers import AdamW
    from train.run import Run
    from train.runtime.host import keep_freed_memory
    from train.setup import prepare
    from train.sharding.mesh import Mesh

    keep_freed_memory()
    size = SHAPES[argument["size"]]
    run = Run(
        model=Decoder(
            vocab=size["vocab"],
            width=size["width"],
            depth=size["depth"],
            block=PreNorm(mixer=Attention(heads=size["heads"]), feed_forward=GatedMLP(hidden=size["hidden"])),
            stack=Sequential(loop="unroll"),
        ),
        data=Text(length=size["length"]),
        optimizer=AdamW(learning_rate=1e-3),
        batch=BATCH,
        precision=argument["precision"],
        mesh=Mesh(replica=argument["devices"], data=1),
    )
    count = argument["replicas"]
    known = {"vocab": size["vocab"], "token_bytes": np.ones(size["vocab"], np.float32)}
    data = dataclasses.replace(run.data.describe(), **known)
    ensemble = Ensemble(tuple({"seed": seed, "optimizer.learning_rate": 1e-3 * (1 + seed)} for seed in range(count)))
    shape = (count, BATCH, size["length"] + 1)
    tokens = np.random.default_rng(0).integers(0, size["vocab"], shape, np.int32)
    batch = {"tokens": tokens, "segments": np.ones_like(tokens)}

    if argument["together"]:
        program = prepare(run, data, ensemble=ensemble)
        box = {"state": program.start()}

        def step() -> None:
            box["state"], _ = program.train_step(box["state"], program.place(batch), program.go())
            jax.block_until_ready(box["state"])

        return step

    program = prepare(run, data)
    states = [program.start() for _ in range(count)]

    def one_after_another() -> None:
        for index in range(count):
            one = {name: array[index] for name, array in batch.items()}
            states[index], _ = program.train_step(states[index], program.place(one), program.go())
        jax.block_until_ready(states)

    return one_after_another


def contestants(device: str, size: str, count: int, precision: str) -> dict[str, tuple[str, str, Any]]:
    """Name -> what `alternate` runs."""
    here, base = "bench.ensemble", {"size": size, "replicas": count, "devices": 1, "precision": precision}
    found: dict[str, tuple[str, str, Any]] = {
        "one program": (here, "replicas", {**base, "together": True}),
        "one after another": (here, "replicas", {**base, "together": False}),
    }
    if device == "cpu" and cores() > 1 and count % cores() == 0:
        found["one program, a device a core"] = (here, "replicas", {**base, "together": True, "devices": cores()})
    return found


def main(argv: list[str]) -> None:
    on_gpu = choose(DEVICE.value)
    print(f"{processor()}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    for size in SIZES.value:
        for count in map(int, REPLICAS.value):
            for precision in PRECISIONS.value:
                print(f"\n{size}, {count} replicas, {precision}, {ROUNDS.value} rounds; a step of all of them")
                seconds = alternate(contestants(DEVICE.value, size, count, precision), ROUNDS.value, at_once=on_gpu)
                print(table(seconds, "one program"), flush=True)


if __name__ == "__main__":
    app.run(main)

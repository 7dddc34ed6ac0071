"""Trains two steps on each of several meshes over 8 simulated devices and prints what came out, as JSON.

python -m tests.train.sharded
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np

from tests.train import toys
from train.data.base import Dataset
from train.optim import Adafactor, AdamW, Constant
from train.run import Run
from train.setup import prepare
from train.sharding.mesh import Mesh

MESHES = {
    "one device": Mesh(data=1),
    "data=8": Mesh(),
    "fsdp=8": Mesh(fsdp=8),
    "data=2 fsdp=2 tensor=2": Mesh(fsdp=2, tensor=2),
    "data=2 tensor=4": Mesh(tensor=4),
}


STEADY = AdamW(learning_rate=1e-2, schedule=Constant(), eps=1e-5)
"""Does not blow a gradient of 1e-8 up, of which other orders of summation leave one digit."""


def two_steps(mesh: Mesh, dataset: Dataset, **fields) -> dict:
    """The losses and gradient norms of two steps, the parameters before and after, and how those are split."""
    told = {"batch": 16, "accumulate": 2, "optimizer": STEADY, **fields}
    program = prepare(toys.run(mesh=mesh, **told), dataset.description)
    batches = dataset.train(16, 0)
    state, fine = program.start(), jnp.asarray(True)
    before = jax.device_get(state["params"])
    told = []
    for _ in range(2):
        state, metrics = program.train_step(state, program.place(next(batches)), fine)
        told += [float(metrics["loss"]), float(metrics["grad_norm"])]
    loss = program.eval_step(state["params"], {}, program.place(next(batches))).loss
    parts = {
        name: [len({str(shard.index) for shard in leaf.addressable_shards}) for leaf in jax.tree.leaves(state[name])]
        for name in ("params", "opt_state")
    }
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
    return {
        "told": [*told, float(loss.total / loss.weight)],
        "before": flat(before),
        "after": flat(jax.device_get(state["params"])),
        "parts": parts,
        "largest": max(shard.data.nbytes for shard in jax.tree.leaves(state["params"])[0].addressable_shards),
    }


def main() -> None:
    dataset = toys.Toy().build()
    alone = two_steps(MESHES["one device"], dataset)
    report = {}
    for name, mesh in MESHES.items():
        found = alone if name == "one device" else two_steps(mesh, dataset)
        report[name] = {
            "told": [abs(a - b) / abs(b) for a, b in zip(found["told"], alone["told"], strict=True)],
            "before": float(np.abs(found["before"] - alone["before"]).max()),
            "after": float(np.abs(found["after"] - alone["after"]).max()),
            "moved": float(np.abs(found["after"] - found["before"]).max()),
            "parts": found["parts"],
        }
    factored = Adafactor(schedule=Constant(), factored_from=8)
    pair = [two_steps(mesh, dataset, optimizer=factored) for mesh in (Mesh(data=1), Mesh(fsdp=2, tensor=2))]
    report["adafactor"] = {"after": float(np.abs(pair[0]["after"] - pair[1]["after"]).max())}
    # Without dropout, devices that split rows alone work by themselves and add up in one exchange.
    still = {"model": toys.model()}
    for accumulate in (1, 2):
        pair = [two_steps(mesh, dataset, accumulate=accumulate, **still) for mesh in (Mesh(data=1), Mesh(data=4))]
        report[f"rows alone, accumulate={accumulate}"] = {
            "told": [abs(a - b) / abs(b) for a, b in zip(pair[1]["told"], pair[0]["told"], strict=True)],
            "after": float(np.abs(pair[0]["after"] - pair[1]["after"]).max()),
            "exchanges": exchanges(toys.run(mesh=Mesh(data=4), batch=16, accumulate=accumulate, **still), dataset),
        }
    report["drawing, exchanges"] = exchanges(toys.run(mesh=Mesh(data=4), batch=16), dataset)
    print(json.dumps(report))


def exchanges(run: Run, dataset: Dataset) -> list[int]:
    """How many sums over devices the training and the evaluation step take."""
    program = prepare(run, dataset.description)
    batch = program.place(next(dataset.train(16, 0)))
    lowered = (
        program.train_step.lower(program.abstract, batch, program.go()),
        program.eval_step.lower(program.abstract["params"], {}, batch),
    )
    texts = [step.compile().as_text() for step in lowered]
    return [len(re.findall(r" all-reduce(?:-start)?\(", text)) for text in texts]


if __name__ == "__main__":
    main()

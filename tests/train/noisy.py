"""Trains three noisy steps on meshes of 1 and 8 simulated devices and prints how far apart they end, as JSON.

python -m tests.train.noisy
"""

import json

import jax
import numpy as np

from arch.models.mlp import DeepMLP
from train.data.digits import Digits
from train.objectives.classification import Classification
from train.optim import SGD, Constant, GradientNoise
from train.run import Run
from train.setup import prepare
from train.sharding.mesh import Mesh

MESHES = {"one": Mesh(data=1), "data=8": Mesh()}


def noisy(eta: float = 0.3, **fields) -> Run:
    """A perceptron whose gradients are small beside the noise."""
    optimizer = SGD(learning_rate=0.1, schedule=Constant(), momentum=0.0, noise=GradientNoise(eta))
    parts = {"model": DeepMLP(hidden=16, depth=3), "data": Digits(), "objective": Classification()}
    return Run(**{**parts, "optimizer": optimizer, "batch": 16, "steps": 3, **fields})


def trained(run: Run, dataset) -> np.ndarray:
    """All parameters after the run's steps."""
    program = prepare(run, dataset.description)
    batches, state = program.batches(dataset), program.start()
    for _ in range(run.steps):
        state, _ = program.train_step(state, program.place(next(batches)), program.go())
        jax.block_until_ready(state)  # simulated devices share few threads: two steps at once can wait for each other
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(state["params"]))])


def main() -> None:
    dataset = Digits().build()
    found = {name: trained(noisy(mesh=mesh), dataset) for name, mesh in MESHES.items()}
    distances = {name: float(np.abs(params - found["one"]).max()) for name, params in found.items()}
    print(json.dumps(distances))


if __name__ == "__main__":
    main()

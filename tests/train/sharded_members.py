"""Two steps of four replicas on one device and on four, over replica and data; prints whether they agree, as JSON.

python -m tests.train.sharded_members
"""

import json

import numpy as np

from tests.train import toys
from train.ensemble import Ensemble
from train.setup import prepare
from train.sharding.mesh import Mesh

MEMBERS = Ensemble(tuple({"seed": seed, "optimizer.learning_rate": 1e-2} for seed in range(4)))


def two_steps(mesh: Mesh, dropout: float) -> tuple[list, int]:
    dataset = toys.Toy().build()
    program = prepare(toys.run(mesh=mesh, model=toys.model(dropout=dropout)), dataset.description, ensemble=MEMBERS)
    state, go, batches, told = program.start(), program.go(), program.batches(dataset), []
    for _ in range(2):
        state, metrics = program.train_step(state, program.place(next(batches)), go)
        told += metrics["loss"].tolist()
    sums = program.eval_step(state["params"], {}, program.place(next(iter(dataset.validation(8))), train=False))
    return [*told, *(sums.loss.total / sums.loss.weight).tolist()], len(
        state["params"]["head"]["kernel"].sharding.device_set
    )


def main() -> None:
    same = []
    for dropout in (0.0, 0.1):
        alone, _ = two_steps(Mesh(data=1), dropout)
        spread, devices = two_steps(Mesh(replica=2, data=2), dropout)
        same.append(bool(np.allclose(alone, spread, rtol=2e-6)))
    print(json.dumps({"same": all(same), "devices": devices}))


if __name__ == "__main__":
    main()

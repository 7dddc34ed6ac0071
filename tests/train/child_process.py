"""One of several processes that train the toy run together, and save the parameters as each sees them.

python -m tests.train.child_process FOLDER COORDINATOR COUNT ID JSON      COORDINATOR "": alone. Writes FOLDER.ID.npy.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from tests.train import toys
from train import distributed
from train.loop import train
from train.mesh import Mesh


def main(folder: str, coordinator: str, count: str, index: str, text: str) -> None:
    if coordinator:
        distributed.initialize(coordinator, int(count), int(index))
    told = json.loads(text)
    mesh = Mesh(**told.pop("mesh", {}))
    run = dataclasses.replace(toys.run(mesh=mesh), **told)
    trained = train(run, folder)
    whole = jax.jit(lambda tree: tree, out_shardings=jax.sharding.NamedSharding(trained.program.mesh, jax.P()))
    params = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(whole(trained.params)))])
    np.save(f"{folder}.{index}.npy", params)
    assert jax.device_count() == 4
    assert distributed.is_main() == (index == "0")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One of several processes that train the toy run together, and save the parameters as each sees them.

python -m tests.train.child_process FOLDER COORDINATOR COUNT ID JSON      COORDINATOR "": alone. Writes FOLDER.ID.npy.

JSON: {"mesh": FIELDS, "signal": [ID, NAME, BATCH]}: process ID is sent NAME when it fetches BATCH.
"""

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
    if told.get("signal", [None])[0] == int(index):
        toys.signal_at(*told["signal"][1:])
    # Without dropout and with few steps: less to compile, which every process does for itself.
    trained = train(toys.run(mesh=Mesh(**told["mesh"]), model=toys.model(), steps=4), folder)
    whole = jax.jit(lambda tree: tree, out_shardings=jax.sharding.NamedSharding(trained.program.mesh, jax.P()))
    params = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(whole(trained.params)))])
    np.save(f"{folder}.{index}.npy", params)
    assert jax.device_count() == 2
    assert distributed.is_main() == (index == "0")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One of several processes that train the toy run together, and save the parameters as each sees them.

python -m tests.train.child_process FOLDER COORDINATOR COUNT ID JSON      COORDINATOR "": alone. Writes FOLDER.ID.npy.

JSON: {"mesh": FIELDS, "signal": [ID, NAME, BATCH], "family": NAME}: process ID is sent NAME when it fetches BATCH;
`family` takes model, objective and data from `tests.train.families` in place of the toy's.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from tests.train import toys
from tests.train.families import without_dropout
from train.loop import train
from train.optim import SGD, Constant
from train.runtime import distributed
from train.sharding.mesh import Mesh
from train.trained import TrainedRun


def main(folder: str, coordinator: str, count: str, index: str, text: str) -> None:
    if coordinator:
        distributed.initialize(coordinator, int(count), int(index))
    told = json.loads(text)
    if told.get("signal", [None])[0] == int(index):
        toys.signal_at(*told["signal"][1:])
    # Attention alone and plain descent: less to compile, which every process but the first does anew.
    block = dataclasses.replace(toys.model().block, feed_forward=None)
    descent = SGD(learning_rate=0.5, momentum=0.0, schedule=Constant())
    fields = without_dropout(told["family"]) if "family" in told else {"model": toys.model(block=block)}
    run = toys.run(mesh=Mesh(**told["mesh"]), optimizer=descent, steps=told.get("steps", 4), **fields)
    trained = train(run, folder)
    asked, evaluation = [], trained.dataset.evaluation
    trained.dataset.evaluation = lambda *words: asked.append(words) or evaluation(*words)
    assert TrainedRun(trained.program, trained.state, trained.dataset, 4).evaluate() == trained.metrics
    assert asked == [("validation", run.batch, int(index), int(count))], "each process evaluates its share"
    whole = jax.jit(lambda tree: tree, out_shardings=jax.sharding.NamedSharding(trained.program.mesh, jax.P()))
    params = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(whole(trained.params)))])
    np.save(f"{folder}.{index}.npy", params)
    assert jax.device_count() == 2
    assert distributed.is_main() == (index == "0")


if __name__ == "__main__":
    main(*sys.argv[1:])

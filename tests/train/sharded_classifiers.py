"""The loss and gradient norm of classifiers on one device and on a mesh of eight, as JSON.

python -m tests.train.sharded_classifiers
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from arch.blocks import PreNorm
from arch.layers.attention.linformer import Linformer
from arch.layers.attention.sinkhorn import Sinkhorn
from arch.layers.attention.synthesizer import DenseSynthesizer
from arch.layers.init.initializers import FanIn
from arch.layers.positions import Learned
from arch.models.classifier import Classifier, Matcher
from train.data.base import Data, Dataset
from train.data.description import Description
from train.data.labelled import token_arrays
from train.objectives.classification import Classification
from train.run import Run
from train.setup import prepare
from train.sharding.mesh import Mesh

VOCAB, LENGTH, BATCH = 16, 8, 8
KINDS = {
    "linformer": (Classifier, Linformer(4, 6, length=LENGTH, rank=4)),
    "sinkhorn": (Classifier, Sinkhorn(4, 6, length=LENGTH, block=2, noise=0.0)),
    "synthesizer": (Matcher, DenseSynthesizer(4, 6, length=LENGTH)),
}
SPLIT = Mesh(fsdp=2, tensor=2)


@dataclasses.dataclass(frozen=True)
class Nothing(Data):
    """Data that is not there: batches are placed by hand."""

    def describe(self):
        return Description(token_arrays(LENGTH))

    def build(self, progress=None):
        return Dataset({}, self.describe(), "none")


def batch(matching: bool) -> dict[str, np.ndarray]:
    """Random rows with padding, one of them with weight 0."""
    rng = np.random.default_rng(0)
    names = ("tokens", "segments", "tokens2", "segments2") if matching else ("tokens", "segments")
    text = (np.arange(LENGTH)[None] < rng.integers(1, LENGTH + 1, (BATCH, 1))).astype(np.int32)
    rows = {name: text * rng.integers(1, VOCAB, (BATCH, LENGTH), dtype=np.int32) for name in names}
    rows = {name: array if name.startswith("tokens") else text for name, array in rows.items()}
    weight = np.array([1] * (BATCH - 1) + [0], np.float32)
    found = {**rows, "label": rng.integers(0, 2, BATCH, dtype=np.int32), "weight": weight}
    assert set(found) == set(token_arrays(LENGTH, names))
    return found


def told(kind: str, mesh: Mesh) -> list[float]:
    """Loss, accuracy and gradient norm of the first step."""
    model, mixer = KINDS[kind]
    run = Run(
        model=model(
            vocab=VOCAB,
            width=16,
            depth=1,
            block=PreNorm(mixer=mixer, feed_forward=None),
            position=Learned(LENGTH),
            init=FanIn(),
        ),
        data=Nothing(),
        objective=Classification(),
        batch=BATCH,
        mesh=mesh,
    )
    rows = batch(model is Matcher)
    program = prepare(run, run.data.describe())
    _, metrics = program.train_step(program.start(), program.place(rows), jnp.asarray(True))
    return [float(metrics[name]) for name in ("loss", "accuracy", "grad_norm", "weight")]


def main() -> None:
    assert jax.device_count() == 8
    print(json.dumps({kind: [told(kind, mesh) for mesh in (Mesh(data=1), SPLIT)] for kind in KINDS}))


if __name__ == "__main__":
    main()

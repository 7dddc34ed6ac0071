"""A run small enough for tests: a decoder of width 32 on random tokens with a pattern to learn."""

import dataclasses
import signal

import numpy as np

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.models.decoder import Decoder
from train.data.base import Data, Dataset, TrainBatches
from train.data.description import Description
from train.optim import AdamW, Constant
from train.run import Logging, Run
from train.sharding.mesh import Mesh

VOCAB, LENGTH = 32, 16


class ToyRows:
    """Rows that count up from a random token, with a random number of steps, over two documents and padding."""

    def __init__(self, count: int, seed: int):
        rng = np.random.default_rng(seed)
        start, stride = rng.integers(0, VOCAB, (count, 1)), rng.integers(1, 4, (count, 1))
        place = np.arange(LENGTH + 1)[None]
        cut, end = rng.integers(3, 8, (count, 1)), rng.integers(10, LENGTH + 2, (count, 1))
        segments = np.where(place < cut, 1, 2) * (place < end)
        self.arrays = {
            "tokens": ((start + stride * place) % VOCAB * (segments > 0)).astype(np.int32),
            "segments": segments.astype(np.int32),
            "positions": np.where(place < cut, place, place - cut).astype(np.int32),
        }

    def __len__(self) -> int:
        return len(self.arrays["tokens"])

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[indices] for name, array in self.arrays.items()}


@dataclasses.dataclass(frozen=True)
class Toy(Data):
    """`rows` to train on, `held_out` to validate on and `test` to test on."""

    rows: int = 60
    held_out: int = 13
    test: int = 0

    def counts(self) -> dict[str, int]:
        counts = {"train": self.rows, "validation": self.held_out, "test": self.test}
        return {split: count for split, count in counts.items() if count}

    def describe(self):
        arrays = dict.fromkeys(("tokens", "segments", "positions"), ((LENGTH + 1,), np.int32))
        return Description(arrays, tuple(self.counts()), VOCAB, token_bytes=np.ones(VOCAB, np.int32))

    def parts(self):
        """What a `Dataset` is made of."""
        rows = {split: ToyRows(count, seed) for seed, (split, count) in enumerate(self.counts().items())}
        return rows, self.describe(), f"toy {self.rows} {self.held_out}"

    def build(self, progress=None):
        return Dataset(*self.parts())


def model(dropout: float = 0.0, **fields) -> Decoder:
    block = PreNorm(mixer=Attention(heads=4, kv_heads=2), feed_forward=GatedMLP(), dropout=dropout)
    return Decoder(**{"vocab": VOCAB, "width": 32, "depth": 3, "block": block, **fields})


def run(**fields) -> Run:
    """Six steps on one device."""
    toy = Run(
        model=model(dropout=0.1),
        data=Toy(),
        optimizer=AdamW(learning_rate=1e-2, schedule=Constant()),
        batch=8,
        steps=6,
        mesh=Mesh(data=1),
        logging=Logging(log=1, evaluate=3, checkpoint=2),
    )
    return dataclasses.replace(toy, **fields)


def signal_at(name: str, batch: int) -> None:
    """Makes this process send itself the signal `name` when it fetches `batch`, once."""
    fetch, sent = TrainBatches.__next__, []

    def signalled(self):
        if not sent and self.get_state()["next_batch"] == batch:
            sent.append(signal.raise_signal(signal.Signals[name]))
        return fetch(self)

    TrainBatches.__next__ = signalled  # type: ignore[method-assign]

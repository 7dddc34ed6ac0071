"""Data: what a run trains and is evaluated on. A `Data` spec builds a `Dataset`, which deals out batches of rows.

A row is one line of every array of a batch. The order of the rows is a function of epoch and seed alone: row k of the
run is the same row on one host or on many. Process p of P holds rows [p * b, (p + 1) * b) of each global batch, where
b = batch / P.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from arch.spec import Spec, SpecError, UserError
from train.data.baselines import Baseline
from train.data.description import Description
from train.data.order import Indices, Order, Shuffled
from train.data.rows import Batch, Rows

LARGEST_SEED = 2**32 - 1
"""Random keys are made of 32 bits: 2^32 would be seed 0 again."""
ENDLESS = 2**62
"""Places of a run: more than any has."""

Progress = Callable[[str, int, int | None], None]
"""Called with (what is being done, units done so far, units in all or None)."""


def silent(what: str, done: int, total: int | None) -> None:
    """A `Progress` that shows nothing."""


class Tokenizer(Protocol):
    """Text to token ids and back. `token_bytes[i]` is the number of UTF-8 bytes that token i stands for."""

    vocab: int
    bos: int
    eos: int
    mask: int | None  # the token that stands for a hidden one; None: there is none
    separator: int | None  # the token between two texts; None: there is none
    token_bytes: np.ndarray
    fingerprint: str  # of what it does: equal fingerprints give equal tokens

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without bos and eos."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of many texts."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; special tokens are left out, broken UTF-8 is shown as U+FFFD."""


@dataclasses.dataclass(frozen=True)
class Data(Spec, abc.ABC):
    """Base of every kind of data."""

    @abc.abstractmethod
    def describe(self) -> Description:
        """What the data is, known before it is built: nothing is fetched, read as a whole or trained."""

    @abc.abstractmethod
    def build(self, progress: Progress | None = None) -> Dataset:
        """Fetches and prepares what is not in the cache yet. `progress` None: bars on a terminal, nothing elsewhere."""

    def conflicts(self) -> Iterator[SpecError]:
        """What is wrong between its parts that are each right by themselves; found before it is built."""
        return iter(())


class Dataset:
    """Rows to train and to evaluate on.

    Attributes:
      rows: split -> its rows. "train" is trained on; "validation", "test" and any others are evaluated on.
      description: what they are, with all that is known once they are built.
      fingerprint: names their content; saved iterator states carry it.
      order: of the rows to train on.
    """

    def __init__(self, rows: Mapping[str, Rows], description: Description, fingerprint: str, order: Order = Shuffled()):
        self.rows = dict(rows)
        self.description = dataclasses.replace(description, splits=tuple(self.rows))
        self.fingerprint, self.order = fingerprint, order

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint!r})"

    def ordered(self, order: Order) -> Self:
        """The same, trained on in another order."""
        other = copy.copy(self)
        other.order = order
        return other

    def with_sets(self, sets: Mapping[str, Rows]) -> Self:
        """The same, with further sets of rows to evaluate on."""
        other = copy.copy(self)
        other.rows = {**self.rows, **sets}
        other.description = dataclasses.replace(self.description, splits=tuple(other.rows))
        return other

    @property
    def vocab(self) -> int:
        """V, 0 for data without tokens."""
        return self.description.vocab or 0

    @property
    def classes(self) -> int:
        """How many labels there are, 0 for data without."""
        return self.description.classes or 0

    @property
    def token_bytes(self) -> np.ndarray | None:
        """UTF-8 bytes that each token stands for, [V]; None for data without text."""
        return self.description.token_bytes

    def baselines(self, split: str) -> tuple[Baseline, ...]:
        """Models of the labels of `split` that count what this data in particular shows, if it knows any."""
        return ()

    def train(self, batch: int, seed: int, process_index: int = 0, process_count: int = 1) -> TrainBatches:
        """Endless batches: every row once an epoch, in an `order` that is a function of epoch and seed.

        Batches run on across the end of an epoch, so nothing is dropped. Each array has batch / process_count rows;
        `row` [b] is the place of each in the global batch. Raises UserError if `process_count` does not divide `batch`.
        """
        return TrainBatches(self.rows["train"], self.fingerprint, batch, seed, process_index, process_count, self.order)

    def evaluation(self, split: str, batch: int, process_index: int = 0, process_count: int = 1) -> EvaluationBatches:
        """Every row of `split` once, in a fixed order; the last batch is filled up with rows of zeros (segment 0).

        `row` [b] is the number of each in the split; the rows that fill up have those that follow.
        """
        return EvaluationBatches(self.rows[split], batch, process_index, process_count)

    def validation(self, batch: int, process_index: int = 0, process_count: int = 1) -> EvaluationBatches:
        """`evaluation` of the validation split."""
        return self.evaluation("validation", batch, process_index, process_count)


class TrainBatches(Iterator[Batch]):
    """Repeated batches of one process, through Grain. The state is a small JSON-able dict.

    A state does not depend on the number of processes: a run saved on two hosts goes on exactly on four.
    """

    def __init__(
        self,
        rows: Rows,
        fingerprint: str,
        batch: int,
        seed: int,
        process_index: int,
        process_count: int,
        order: Order = Shuffled(),
    ):
        import grain  # slow to import, and configuration files need only the specs of this folder

        local = share(batch, process_index, process_count)
        if not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"data seed {seed}: must be between 0 and {LARGEST_SEED}")
        self._rows, self._order, self._seed = rows, order, seed
        self._epochs: dict[int, Indices] = {}
        self._row = process_index * local + np.arange(local, dtype=np.int32)
        places = grain.MapDataset.range(ENDLESS)
        batches = places.batch(local, drop_remainder=True, batch_fn=np.asarray)[process_index::process_count]
        in_this_thread = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._batches = iter(batches.map(self._at).to_iter_dataset(in_this_thread))
        self._identity = {"data": fingerprint, "order": str(order), "batch": batch, "seed": seed}

    def __next__(self) -> Batch:
        return next(self._batches)

    def _at(self, places: np.ndarray) -> Batch:
        """The rows at `places` [b] of the run, which follow each other."""
        epochs, inside = np.divmod(places, len(self._rows))
        found = [self._epoch(int(epoch))[inside[epochs == epoch]] for epoch in np.unique(epochs)]
        return {**self._rows.gather(np.concatenate(found)), "row": self._row}

    def _epoch(self, epoch: int) -> Indices:
        """The order of an epoch. That of the newest two is kept: a batch may stand in both."""
        if epoch not in self._epochs:
            found = self._order.indices(self._rows, epoch, self._seed)
            if len(found) != len(self._rows):
                raise UserError(f"{self._order}: gives {len(found)} places for {len(self._rows)} rows; "
                                "it must give every row a place in each epoch")  # fmt: skip
            self._epochs = {old: kept for old, kept in self._epochs.items() if old == epoch - 1} | {epoch: found}
        return self._epochs[epoch]

    def get_state(self) -> dict[str, Any]:
        """Where this iterator stands: the next batch to come, and what it would be wrong to resume it on."""
        return {"next_batch": int(self._batches.get_state()["next_index"]), **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to where `state` was taken. Raises UserError if it was taken on other data, order, batch or seed."""
        for name, mine in self._identity.items():
            if state.get(name) != mine:
                raise UserError(f"the saved data position has {name} {state.get(name)!r}, this run has {mine!r}; "
                                "resume with the settings it was saved with, or start a new run")  # fmt: skip
        self._batches.set_state({"next_index": int(state["next_batch"])})


class EvaluationBatches:
    """A finite iterable of batches, the same each time it is iterated."""

    def __init__(self, rows: Rows, batch: int, process_index: int, process_count: int):
        self._rows, self._batch = rows, batch
        self._local = share(batch, process_index, process_count)
        self._offset = process_index * self._local

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch)

    def __iter__(self) -> Iterator[Batch]:
        for index in range(len(self)):
            first = index * self._batch + self._offset
            present = np.arange(first, max(first, min(first + self._local, len(self._rows))))
            arrays = self._rows.gather(present)
            missing = self._local - len(present)
            filled = {name: np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) for name, a in arrays.items()}
            yield {**filled, "row": np.arange(first, first + self._local, dtype=np.int32)}


def share(batch: int, process_index: int, process_count: int) -> int:
    """The rows of a global batch that each process holds. Raises UserError if they cannot be dealt out evenly."""
    if batch < 1 or batch % process_count:
        raise UserError(f"batch {batch}: must be a positive multiple of the number of processes, {process_count}")
    if not 0 <= process_index < process_count:
        raise UserError(f"process index {process_index}: must be between 0 and {process_count - 1}")
    return batch // process_count

"""Data: what a run trains and validates on. A `Data` spec builds a `Dataset`, which deals out batches of rows.

A row is one line of every array of a batch. The order of the rows is a function of the seed alone: row k of the run
is the same row on one host or on many. Process p of P holds rows [p * b, (p + 1) * b) of each global batch, where
b = batch / P.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from arch.spec import Spec, UserError

Batch = dict[str, np.ndarray]
Progress = Callable[[str, int, int | None], None]
"""Told (what is being done, units done so far, units in all or None)."""


def silent(what: str, done: int, total: int | None) -> None:
    """A `Progress` that shows nothing."""


class Tokenizer(Protocol):
    """Text to token ids and back. `token_bytes[i]` is the number of UTF-8 bytes that token i stands for."""

    vocab: int
    bos: int
    eos: int
    token_bytes: np.ndarray
    fingerprint: str  # of what it does: equal fingerprints give equal tokens

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without bos and eos."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of many texts."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; special tokens are left out, broken UTF-8 is shown as U+FFFD."""


class Rows(Protocol):
    """Random access to rows, many at a time."""

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> Batch:
        """The rows `indices` [b], as arrays with b rows each, in that order."""


@dataclasses.dataclass(frozen=True)
class Data(Spec, abc.ABC):
    """Base of every kind of data."""

    @abc.abstractmethod
    def arrays(self, batch: int) -> dict[str, tuple[tuple[int, ...], type]]:
        """Name -> (shape, dtype) of the arrays in a batch of `batch` rows; known without the data."""

    @abc.abstractmethod
    def build(self, progress: Progress | None = None) -> Dataset:
        """Fetches and prepares what is not in the cache yet. `progress` None: bars on a terminal, nothing elsewhere."""


class Dataset:
    """Rows to train on and rows to validate on. `fingerprint` names their content; saved iterator states carry it."""

    def __init__(self, train_rows: Rows, validation_rows: Rows, fingerprint: str):
        self.train_rows = train_rows
        self.validation_rows = validation_rows
        self.fingerprint = fingerprint

    def train(self, batch: int, seed: int, process_index: int = 0, process_count: int = 1) -> TrainBatches:
        """Endless batches: every row once an epoch, in an order that differs from epoch to epoch and seed to seed.

        Batches run on across the end of an epoch, so nothing is dropped. Each array has batch / process_count rows.
        Raises UserError if `process_count` does not divide `batch`.
        """
        return TrainBatches(self.train_rows, self.fingerprint, batch, seed, process_index, process_count)

    def validation(self, batch: int, process_index: int = 0, process_count: int = 1) -> ValidationBatches:
        """Every validation row once, in a fixed order; the last batch is filled up with rows of zeros (segment 0)."""
        return ValidationBatches(self.validation_rows, batch, process_index, process_count)


class TrainBatches(Iterator[Batch]):
    """Shuffled, repeated batches of one process, through Grain. The state is a small JSON-able dict.

    A state does not depend on the number of processes: a run saved on two hosts goes on exactly on four.
    """

    def __init__(self, rows: Rows, fingerprint: str, batch: int, seed: int, process_index: int, process_count: int):
        import grain  # slow to import, and configuration files need only the specs of this folder

        local = share(batch, process_index, process_count)
        if not 0 <= seed < 2**32:
            raise UserError(f"data seed {seed}: must be between 0 and 4294967295")
        indices = grain.MapDataset.range(len(rows)).seed(seed).shuffle().repeat()
        batches = indices.batch(local, drop_remainder=True, batch_fn=np.asarray)[process_index::process_count]
        in_this_thread = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._batches = iter(batches.map(rows.gather).to_iter_dataset(in_this_thread))
        self._identity = {"data": fingerprint, "batch": batch, "seed": seed}

    def __next__(self) -> Batch:
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """Where this iterator stands: the next batch to come, and what it would be wrong to resume it on."""
        return {"next_batch": int(self._batches.get_state()["next_index"]), **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to where `state` was taken. Raises UserError if it was taken on other data, batch size or seed."""
        for name, mine in self._identity.items():
            if state.get(name) != mine:
                raise UserError(f"the saved data position has {name} {state.get(name)!r}, this run has {mine!r}; "
                                "resume with the settings it was saved with, or start a new run")  # fmt: skip
        self._batches.set_state({"next_index": int(state["next_batch"])})


class ValidationBatches:
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
            yield {name: np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) for name, a in arrays.items()}


def share(batch: int, process_index: int, process_count: int) -> int:
    """The rows of a global batch that each process holds. Raises UserError if they cannot be dealt out evenly."""
    if batch < 1 or batch % process_count:
        raise UserError(f"batch {batch}: must be a positive multiple of the number of processes, {process_count}")
    if not 0 <= process_index < process_count:
        raise UserError(f"process index {process_index}: must be between 0 and {process_count - 1}")
    return batch // process_count

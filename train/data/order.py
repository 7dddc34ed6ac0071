"""The order in which rows are trained on: a part, and a pure function of epoch and seed.

Place k of a run (row k % B of its batch k // B) is place k % n of epoch k // n, where n rows there are. An `Order` says
which row stands at each place of an epoch. Neither the number of hosts nor a resumed run changes it.
"""

from __future__ import annotations

import abc
import dataclasses
import weakref
from collections.abc import Iterator
from typing import ClassVar, Protocol

import numpy as np

from arch.spec import Problem, Spec, UserError, at_least
from train.data.rows import Batch, Rows

READ_AT_ONCE = 1024


class Indices(Protocol):
    """The row at each place of an epoch: an array [n] of integers, or what is indexed like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: np.ndarray) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Order(Spec, abc.ABC):
    """Base of every order. `needs` are the arrays of a batch that it reads."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The arrays that it reads of the rows; data without them is refused before anything runs."""
        return ()

    @abc.abstractmethod
    def indices(self, rows: Rows, epoch: int, seed: int) -> Indices:
        """The row at each place of `epoch`, [len(rows)]. Depends on nothing but its arguments."""


@dataclasses.dataclass(frozen=True)
class Shuffled(Order):
    """Every row once an epoch, in an order of each epoch's own (Grain's index shuffle)."""

    def indices(self, rows: Rows, epoch: int, seed: int) -> Indices:
        return _Shuffle(len(rows), epoch, seed)


class _Shuffle:
    """Grain's shuffled range. A place is computed when it is read: rows may be many."""

    def __init__(self, count: int, epoch: int, seed: int):
        import grain  # slow to import, and configuration files need only the specs of this folder

        self._count, self._first = count, epoch * count
        self._rows = grain.MapDataset.range(count).seed(seed).shuffle().repeat()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return np.array([self._rows[self._first + int(place)] for place in places], np.int64)


@dataclasses.dataclass(frozen=True)
class InOrder(Order):
    """As they lie in the data, in every epoch."""

    def indices(self, rows: Rows, epoch: int, seed: int) -> Indices:
        return np.arange(len(rows))


@dataclasses.dataclass(frozen=True)
class Key(Spec, abc.ABC):
    """Base of what rows are sorted by: one number a row."""

    needs: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def of(self, batch: Batch) -> np.ndarray:
        """The number of each row of `batch`, [b]."""


@dataclasses.dataclass(frozen=True)
class Length(Key):
    """How many tokens a row holds, padding left out."""

    needs: ClassVar[tuple[str, ...]] = ("segments",)

    def of(self, batch: Batch) -> np.ndarray:
        return np.count_nonzero(batch["segments"], axis=1)


@dataclasses.dataclass(frozen=True)
class Label(Key):
    """The class of a row."""

    needs: ClassVar[tuple[str, ...]] = ("label",)

    def of(self, batch: Batch) -> np.ndarray:
        return batch["label"]


@dataclasses.dataclass(frozen=True)
class ByClass(Order):
    """A class-incremental stream: all rows of the first `together` classes, then those of the next; shuffled inside.

    Each epoch goes through all classes.
    """

    together: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "together")

    @property
    def needs(self) -> tuple[str, ...]:
        return Label.needs

    def indices(self, rows: Rows, epoch: int, seed: int) -> Indices:
        return sorted_by(values(rows, Label()) // self.together, epoch, seed)


@dataclasses.dataclass(frozen=True)
class ClassIncremental(Order):
    """A class-incremental stream of phases: `read` rows of the first `together` classes, then as many of the next.

    In a phase its rows come again and again, each time in another order; what is read after the last phase is of its
    classes too. A phase is `read` / batch steps, so that the run has a step for the end of each.
    """

    together: int = 2
    read: int = 1024

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "together", "read")

    @property
    def needs(self) -> tuple[str, ...]:
        return Label.needs

    def indices(self, rows: Rows, epoch: int, seed: int) -> Indices:
        phases = values(rows, Label()) // self.together
        members = [np.flatnonzero(phases == phase) for phase in np.unique(phases)]
        places = epoch * len(rows) + np.arange(len(rows))
        found = np.empty(len(rows), np.int64)
        at = np.minimum(places // self.read, len(members) - 1)
        for phase in np.unique(at):
            mine = members[phase]
            turn, inside = np.divmod(places[at == phase] - phase * self.read, len(mine))
            orders = {one: np.random.default_rng((seed, phase, one)).permutation(mine) for one in np.unique(turn)}
            found[at == phase] = [orders[one][place] for one, place in zip(turn, inside, strict=True)]
        return found


@dataclasses.dataclass(frozen=True)
class Curriculum(Order):
    """From small to large `key` (Bengio et al. 2009), equal ones shuffled.

    Attributes:
      key: what is small, as `Length()` or a `Key` of your own.
      descending: from large to small.
      epochs: so many are sorted, those that follow are shuffled; None: all are sorted.
    """

    key: Key = Length()
    descending: bool = False
    epochs: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "epochs")

    @property
    def needs(self) -> tuple[str, ...]:
        return self.key.needs

    def indices(self, rows: Rows, epoch: int, seed: int) -> Indices:
        if self.epochs is not None and epoch >= self.epochs:
            return Shuffled().indices(rows, epoch, seed)
        found = values(rows, self.key)
        return sorted_by(-found if self.descending else found, epoch, seed)


def sorted_by(numbers: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """The rows from the smallest of `numbers` [n] to the largest, equal ones in an order of `epoch` and `seed`."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(len(numbers))
    return shuffled[np.argsort(numbers[shuffled], kind="stable")]


_known: weakref.WeakKeyDictionary[Rows, dict[Key, np.ndarray]] = weakref.WeakKeyDictionary()
"""The numbers of rows that were read once: every epoch needs them."""


def values(rows: Rows, key: Key) -> np.ndarray:
    """`key` of every row, [len(rows)]; reads them all, once. Raises UserError if it gives another number of values."""
    mine = _known.setdefault(rows, {})
    if key not in mine:
        parts = []
        for first in range(0, len(rows), READ_AT_ONCE):
            places = np.arange(first, min(first + READ_AT_ONCE, len(rows)))
            parts.append(np.asarray(key.of(rows.gather(places))))
            if parts[-1].shape != places.shape:
                raise UserError(f"{key}: gives an array of {parts[-1].shape} for {len(places)} rows; "
                                "it must give one number a row")  # fmt: skip
        mine[key] = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return mine[key]

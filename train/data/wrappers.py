"""Data that changes one thing of other data: the order of its training rows, or what else it is evaluated on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, SpecError, UserError, at_least
from train.data.base import Data, Dataset, Progress
from train.data.description import Description
from train.data.order import Label, Order, Shuffled, values
from train.data.rows import Batch, Rows

TAKEN = ("train", "val", "validation", "test", "diagnostics")
"""Names that metrics begin with already."""


@dataclasses.dataclass(frozen=True)
class Ordered(Data):
    """`data`, trained on in another order: Ordered(TextClasses(), ByClass()) is a class-incremental stream."""

    data: Data
    order: Order = Shuffled()

    def describe(self) -> Description:
        return self.data.describe()

    def conflicts(self) -> Iterator[SpecError]:
        yield from self.data.conflicts()
        there = self.describe().arrays
        missing = [name for name in self.order.needs if name not in there]
        if missing:
            yield self.invalid("order", f"reads {', '.join(missing)} of the rows; they have {', '.join(there)}")

    def build(self, progress: Progress | None = None) -> Dataset:
        for error in self.conflicts():
            raise error
        return self.data.build(progress).ordered(self.order)


@dataclasses.dataclass(frozen=True)
class WithEvaluation(Data):
    """`data`, evaluated on further sets as well, whose metrics are `NAME/loss` and the like beside `val/loss`.

    Attributes:
      data: what is trained, validated and tested on.
      sets: (name, other data), whose validation split it is. Its rows, tokens and labels must be those of `data`: a BPE
        that is trained on text needs its `source`, BPE(source=WikiLeads()), to be the same in both.
    """

    data: Data
    sets: tuple[tuple[str, Data], ...]

    def problems(self) -> Iterator[Problem]:
        names = [name for name, _ in self.sets]
        for name in names:
            if not re.fullmatch(r"[A-Za-z][\w-]*", name) or name in TAKEN or names.count(name) > 1:
                yield Problem("sets", name, f"names must be different words, and none of {', '.join(TAKEN)}")

    def describe(self) -> Description:
        inner = self.data.describe()
        return dataclasses.replace(inner, splits=(*inner.splits, *(name for name, _ in self.sets)))

    def conflicts(self) -> Iterator[SpecError]:
        inner = self.data.describe()
        for spec in (self.data, *(data for _, data in self.sets)):
            yield from spec.conflicts()
        for name, data in self.sets:
            own = data.describe()
            for what, mine, other in (
                ("arrays", _said(inner), _said(own)),
                ("vocab", inner.vocab, own.vocab),
                ("classes", inner.classes, own.classes),
            ):
                if mine != other and None not in (mine, other):
                    yield self._refuse(name, f"has other {what} ({other}) than the data trained on ({mine})")
            if "validation" not in own.splits:
                yield self._refuse(name, "has no validation split")

    def _refuse(self, name: str, what: str) -> SpecError:
        return SpecError(self, [Problem("sets", name, what)])

    def build(self, progress: Progress | None = None) -> Dataset:
        """Raises UserError for a set in other tokens."""
        for error in self.conflicts():
            raise error
        dataset = self.data.build(progress)
        built = {name: data.build(progress) for name, data in self.sets}
        for name, other in built.items():
            mine, its = (getattr(one, "tokenizer", None) for one in (dataset, other))
            if mine is not None and its is not None and mine.fingerprint != its.fingerprint:
                raise UserError(f"data.sets: {name} is in other tokens than the data trained on; give both the same "
                                "tokenizer, as BPE(source=...)")  # fmt: skip
            if dataset.classes != other.classes:
                raise UserError(f"data.sets: {name} has {other.classes} classes, the data trained on {dataset.classes}")
        return dataset.with_sets({name: other.rows["validation"] for name, other in built.items()})


@dataclasses.dataclass(frozen=True)
class WithClassSets(Data):
    """`data`, evaluated on a set for each `together` classes as well: `phase1` has the first ones, and so on.

    Attributes:
      data: what is trained, validated and tested on.
      classes: how many it has.
      together: classes of a set.
      split: whose rows the sets are, "test" or "validation". They are evaluated whenever validation is.
    """

    data: Data
    classes: int = 10
    together: int = 2
    split: str = "test"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "classes", "together")

    @property
    def phases(self) -> int:
        """How many sets there are."""
        return -(-self.classes // self.together)

    @property
    def names(self) -> tuple[str, ...]:
        """What the sets are called."""
        return tuple(f"phase{number}" for number in range(1, self.phases + 1))

    def describe(self) -> Description:
        inner = self.data.describe()
        return dataclasses.replace(inner, splits=(*inner.splits, *self.names))

    def conflicts(self) -> Iterator[SpecError]:
        yield from self.data.conflicts()
        inner = self.data.describe()
        if self.split not in inner.evaluated:
            yield self.invalid("split", f"must be one of {', '.join(inner.evaluated)}")
        if "label" not in inner.arrays:
            yield self.invalid("data", "must have labels")
        if inner.classes not in (None, self.classes):
            yield self.invalid("classes", f"must be {inner.classes}, the classes of the data")

    def build(self, progress: Progress | None = None) -> Dataset:
        """Raises UserError for classes of which the split has no rows."""
        for error in self.conflicts():
            raise error
        dataset = self.data.build(progress)
        rows = dataset.rows[self.split]
        phases = values(rows, Label()) // self.together
        sets = {name: Chosen(rows, np.flatnonzero(phases == index)) for index, name in enumerate(self.names)}
        for name, one in sets.items():
            if not len(one):
                raise UserError(f"data: {self.split} has no rows of the classes of {name}")
        return dataset.with_sets(sets)


class Chosen:
    """Some of `rows`, those at `which`."""

    def __init__(self, rows: Rows, which: np.ndarray):
        self.rows, self.which = rows, which

    def __len__(self) -> int:
        return len(self.which)

    def gather(self, indices: np.ndarray) -> Batch:
        return self.rows.gather(self.which[indices])


def _said(description: Description) -> str:
    """The arrays as text: tokens [256], label []."""
    return ", ".join(f"{name} {list(shape)}" for name, (shape, _) in description.arrays.items())

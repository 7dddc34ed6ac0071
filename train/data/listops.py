"""ListOps (Nangia and Bowman, arXiv 1804.06028): nested lists of digits to be worked out, one digit the answer.

[MAX 2 9 [MIN 4 7 ] 0 ] is 9. The operations are MIN, MAX, MED (the median, rounded down) and SUM_MOD (the sum modulo
10); every argument is a digit or, with probability 1/4, a list. Expressions are made from a seed, and no two of them,
of whatever split, are equal.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from arch.spec import Problem, UserError, at_least
from train.data import cache
from train.data.bars import bars
from train.data.base import Data, Progress
from train.data.description import Description
from train.data.label_counts import by_group
from train.data.labelled import Documents, LabelledDataset, LabelledRows, token_arrays

VERSION = 2  # raise it when the same fields give other expressions
LIST = 0.25
"""Probability that an argument is a list, above the greatest depth."""
TRIES = 100_000
"""Expressions in a row that may be refused before the bounds are held to be out of reach."""

MADE = ("validation", "train", "test")
"""The order in which splits are made: another number to test on leaves the others as they are."""

OPERATIONS: dict[str, Callable[[list[int]], int]] = {
    "MIN": min,
    "MAX": max,
    "MED": lambda values: (sorted(values)[(len(values) - 1) // 2] + sorted(values)[len(values) // 2]) // 2,
    "SM": lambda values: sum(values) % 10,
}
TOKENS = ("<pad>", *(str(digit) for digit in range(10)), *(f"[{name}" for name in OPERATIONS), "]")
INDEX = {token: index for index, token in enumerate(TOKENS)}


@dataclasses.dataclass(frozen=True)
class ListOps(Data):
    """Generated expressions.

    Attributes:
      length: tokens of an expression at most; rows are this long.
      shortest: tokens of an expression at least.
      train, validation, test: expressions; 0 for test: there is no test split.
      depth: of nesting, at most.
      arguments: of a list, at most; two at least.
      seed: of the expressions. It is not the run's: all seeds of a study see the same ones.
    """

    length: int = 128
    shortest: int = 8
    train: int = 20_000
    validation: int = 2_000
    test: int = 2_000
    depth: int = 10
    arguments: int = 5
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "train", "validation", "depth")
        yield from at_least(self, 2, "arguments")
        yield from at_least(self, 4, "shortest")
        yield from at_least(self, 0, "seed", "test")
        if self.length < self.shortest:
            yield Problem("length", self.length, f"must be at least shortest={self.shortest}")

    def describe(self) -> Description:
        return Description(token_arrays(self.length), tuple(self._counts()), vocab=len(TOKENS), classes=10)

    def _counts(self) -> dict[str, int]:
        """Split -> how many expressions it has."""
        return {"train": self.train, "validation": self.validation, **({"test": self.test} if self.test else {})}

    def build(self, progress: Progress | None = None) -> ListOpsDataset:
        """Raises UserError if there are not enough expressions within the bounds."""
        key = cache.digest("listops", VERSION, dataclasses.asdict(self))

        def make(folder: Path) -> None:
            with bars(progress) as report:
                found = distinct(self, report)
            labels = np.array([value for _, value in found], np.uint8)
            first, counts = 0, self._counts()
            for name in sorted(counts, key=MADE.index):
                last = first + counts[name]
                Documents.of((list(row) for row, _ in found[first:last]), len(TOKENS)).save(folder, name)
                np.save(folder / f"{name}.labels.npy", labels[first:last])
                first = last

        folder = cache.entry("listops", key, make)
        rows = {
            name: LabelledRows(Documents.load(folder, name), np.load(folder / f"{name}.labels.npy"), self.length)
            for name in self._counts()
        }
        return ListOpsDataset(rows, self.describe(), key)


class ListOpsDataset(LabelledDataset):
    """Expressions with their values."""

    def baselines(self, split):
        """What the outermost operation alone tells of the value."""
        return (by_group("operator alone", self, split, lambda batch: batch["tokens"][:, 0], self.vocab, bar=True),)


def distinct(spec: ListOps, progress: Progress) -> list[tuple[bytes, int]]:
    """(tokens, value) of different expressions, in the order of `MADE`."""
    chance, count = random.Random(spec.seed), spec.train + spec.validation + spec.test
    found: dict[bytes, int] = {}
    refused = 0
    while len(found) < count:
        row, value = expression(chance, spec.depth, spec.arguments)
        if not spec.shortest <= len(row) <= spec.length or row in found:
            refused += 1
            if refused > TRIES:
                raise UserError(f"ListOps: {TRIES} expressions in a row were too short, too long or there already; "
                                f"{len(found)} of {count} found. Widen shortest={spec.shortest} to "
                                f"length={spec.length}, raise arguments={spec.arguments} or depth={spec.depth}, or "
                                "ask for fewer")  # fmt: skip
            continue
        refused = 0
        found[row] = value
        if len(found) % 1024 == 0 or len(found) == count:
            progress("make ListOps", len(found), count)
    return list(found.items())


def expression(chance: random.Random, depth: int, arguments: int) -> tuple[bytes, int]:
    """The tokens of a list and its value. Draws with `random()` alone, whose numbers are the same in every Python."""
    names = list(OPERATIONS)
    name = names[int(chance.random() * len(names))]
    row, values = bytearray([INDEX[f"[{name}"]]), []
    for _ in range(2 + int(chance.random() * (arguments - 1))):
        if depth > 1 and chance.random() < LIST:
            inner, value = expression(chance, depth - 1, arguments)
            row += inner
        else:
            value = int(chance.random() * 10)
            row.append(INDEX[str(value)])
        values.append(value)
    row.append(INDEX["]"])
    return bytes(row), OPERATIONS[name](values)


def text(row: bytes | np.ndarray) -> str:
    """An expression as people read it."""
    return " ".join(TOKENS[index] for index in row if index)

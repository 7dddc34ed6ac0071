"""Pairs of texts as rows: one pair a row, or several packed into one, the same ones on both sides.

The source stands as text [eos], the target as [bos] text [eos]. Padding has segment 0.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from arch.spec import Problem, Spec, at_least
from train.data.description import Shape
from train.data.packing import PackedRows, Plan
from train.data.rows import Batch
from train.data.stream import Stream


@dataclasses.dataclass(frozen=True)
class PairLayout(Spec, abc.ABC):
    """Base of every way to lay pairs out in rows."""

    positions: ClassVar[bool] = False
    """Whether rows say the place of each token in its text: needed where several texts share a row."""

    @abc.abstractmethod
    def assign(self, source: np.ndarray, target: np.ndarray, widths: tuple[int, int]) -> np.ndarray:
        """The row [pairs] of each pair, from 0, given the tokens of both sides [pairs] and what rows have room for.

        No side is larger than its width.
        """

    def arrays(self, widths: tuple[int, int]) -> dict[str, tuple[Shape, type]]:
        """Name -> (shape of one row, dtype) of the arrays of a batch."""
        sides = (("source", "source_"), widths[0]), (("tokens", ""), widths[1])
        more = ("segments", "positions") if self.positions else ("segments",)
        return {name: ((width,), np.int32) for (tokens, prefix), width in sides
                for name in (tokens, *(prefix + one for one in more))}  # fmt: skip

    def build(self, source: Stream, target: Stream, chosen: np.ndarray, widths: tuple[int, int]) -> PairRows:
        """The rows of the pairs `chosen` [pairs], cut off at the widths of source and target."""
        begins = [np.concatenate([[0], stream.ends[:-1]])[chosen] for stream in (source, target)]
        begins[0] = begins[0] + 1  # without bos
        sizes = [np.minimum(stream.ends[chosen] - begin, width)
                 for stream, begin, width in zip((source, target), begins, widths, strict=True)]  # fmt: skip
        row = self.assign(sizes[0], sizes[1], widths)
        order = np.argsort(row, kind="stable")
        first = np.searchsorted(row[order], np.arange(row.max() + 2))
        plans = [Plan(begin[order], size[order], first, width)
                 for begin, size, width in zip(begins, sizes, widths, strict=True)]  # fmt: skip
        return PairRows(PackedRows(source.tokens, plans[0]), PackedRows(target.tokens, plans[1]), self.positions)


@dataclasses.dataclass(frozen=True)
class OnePair(PairLayout):
    """Every pair has a row of its own."""

    def assign(self, source, target, widths):
        return np.arange(len(source))


@dataclasses.dataclass(frozen=True)
class PackedPairs(PairLayout):
    """As many pairs in a row as both sides have room for: each into the fullest row that takes it.

    `open` rows are filled at a time; when none of them takes a pair, the fullest is closed.
    """

    open: int = 256
    positions: ClassVar[bool] = True

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "open")

    def assign(self, source, target, widths):
        sizes = np.stack([source, target], axis=1)
        row = np.zeros(len(sizes), np.int64)
        free = np.zeros((self.open, 2), np.int64)  # room in each open row; none in those that are not there yet
        number = np.zeros(self.open, np.int64)
        scale = 1 / np.array(widths, np.float64)
        rows = 0
        for pair, size in enumerate(sizes):
            room = free @ scale
            takes = np.flatnonzero((free >= size).all(axis=1))
            if len(takes):
                place = takes[np.argmin(room[takes])]
            else:
                place = np.argmin(room)
                free[place], number[place], rows = widths, rows, rows + 1
            free[place] -= size
            row[pair] = number[place]
        return row


class PairRows:
    """Random access to rows of pairs. Segments of a row count its pairs from 1, on both sides alike."""

    def __init__(self, source: PackedRows, target: PackedRows, positions: bool):
        self.source, self.target, self._positions = source, target, positions

    def __len__(self) -> int:
        return len(self.target)

    def gather(self, indices: np.ndarray) -> Batch:
        """The arrays of `PairLayout.arrays` of the rows `indices` [b], each int32 [b, width]."""
        source, target = self.source.gather(indices), self.target.gather(indices)
        batch = {"source": source["tokens"], "source_segments": source["segments"],
                 "tokens": target["tokens"], "segments": target["segments"]}  # fmt: skip
        if self._positions:
            batch |= {"source_positions": source["positions"], "positions": target["positions"]}
        return batch

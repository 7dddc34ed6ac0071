"""Patterns of blocks: local and global attention in turn, dense layers before sparse ones, a list by hand.

A stack runs what repeats as one scanned period and unrolls the rest; every layer knows its own index.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from arch.blocks.base import Block
from arch.spec import Problem, between
from arch.stacks.base import Pattern


@dataclasses.dataclass(frozen=True)
class Cycle(Pattern):
    """The given blocks in turn, over and over: layer l is `period[l % len(period)]`.

    `Cycle((local,) * 5 + (full,))` is the 5:1 pattern of local and global attention (Gemma 3, arXiv 2503.19786).
    """

    period: tuple[Block, ...]

    def problems(self) -> Iterator[Problem]:
        if not self.period:
            yield Problem("period", self.period, "must hold at least one block")

    @property
    def blocks(self):
        return self.period

    def layers(self, depth):
        return tuple(self.period[layer % len(self.period)] for layer in range(depth))


@dataclasses.dataclass(frozen=True)
class FirstThen(Pattern):
    """The blocks of `first`, one layer each, then those of `period` in turn, over and over."""

    first: tuple[Block, ...]
    period: tuple[Block, ...]

    def problems(self) -> Iterator[Problem]:
        for name in ("first", "period"):
            if not getattr(self, name):
                yield Problem(name, (), "must hold at least one block")

    @property
    def blocks(self):
        return tuple(dict.fromkeys((*self.first, *self.period)))

    def layers(self, depth):
        after = range(max(0, depth - len(self.first)))
        return (*self.first, *(self.period[layer % len(self.period)] for layer in after))[:depth]


@dataclasses.dataclass(frozen=True)
class Split(Pattern):
    """`first` in the first floor(`fraction` * L) layers, `rest` in the others."""

    first: Block
    rest: Block
    fraction: float = 0.25

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "fraction")

    @property
    def blocks(self):
        return (self.first, self.rest)

    def layers(self, depth):
        border = math.floor(self.fraction * depth)
        return (self.first,) * border + (self.rest,) * (depth - border)


@dataclasses.dataclass(frozen=True)
class Listed(Pattern):
    """Every layer by itself; as many blocks as the model has layers."""

    each: tuple[Block, ...]

    def problems(self) -> Iterator[Problem]:
        if not self.each:
            yield Problem("each", self.each, "must hold one block a layer")

    @property
    def blocks(self):
        return tuple(dict.fromkeys(self.each))

    def layers(self, depth):
        if len(self.each) != depth:
            raise self.invalid("each", f"must hold {depth} blocks, one for each layer of the model")
        return self.each


class Section(NamedTuple):
    """A run of layers that is one loop: from layer `first` on, `period` blocks in turn, `repeats` times."""

    first: int
    period: tuple[Block, ...]
    repeats: int

    def layers(self, place: int) -> range:
        """The layers that stand at `place` of the period, by their place in the stack."""
        size = len(self.period)
        return range(self.first + place, self.first + size * self.repeats, size)


def sections(blocks: Sequence[Block], breaks: Sequence[int] = ()) -> list[Section]:
    """`blocks`, one a layer, as as few loops as are found: at each layer the period that repeats over most layers.

    Loops do not go across `breaks`, numbers of layers after which something else comes.
    """
    found: list[Section] = []
    start = 0
    for end in sorted({*breaks, len(blocks)} - {0}):
        while start < end:
            period, repeats = _longest(blocks, start, end)
            found.append(Section(start, tuple(blocks[start : start + period]), repeats))
            start += period * repeats
    return found


def _longest(blocks: Sequence[Block], start: int, end: int) -> tuple[int, int]:
    """(period, repeats) of the repetition that covers most of the layers from `start`; the shortest of equals."""
    best = (1, 1)
    for period in range(1, (end - start) // 2 + 1):
        matching = period
        while start + matching < end and blocks[start + matching] == blocks[start + matching - period]:
            matching += 1
        repeats = matching // period
        if repeats > 1 and period * repeats > (best[0] * best[1] if best[1] > 1 else 0):
            best = (period, repeats)
    return best

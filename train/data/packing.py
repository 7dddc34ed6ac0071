"""Packing: documents into rows of length + 1 tokens, of which length are inputs and length are targets.

A document that fits into a row stays whole; a longer one is cut into pieces that overlap by one token, so that every
token but the first of a document is a target exactly once. Pieces are placed best fit first, longest first ("Fewer
Truncations Improve Language Modeling", Ding et al., arXiv:2404.10830), which here takes O(1) a piece: a bit mask of
the free spaces finds the tightest one.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from train.data.rows import Batch


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which tokens stand in which row. Pieces are listed row by row; row r holds pieces first[r]:first[r + 1]."""

    start: np.ndarray  # [pieces] int64, place of the piece in the token stream
    size: np.ndarray  # [pieces] int64, tokens in the piece, 2 to width
    first: np.ndarray  # [rows + 1] int64
    width: int  # tokens a row

    @property
    def rows(self) -> int:
        return len(self.first) - 1

    @property
    def efficiency(self) -> float:
        """The part of all places in the rows that hold a token."""
        return float(self.size.sum() / (self.rows * self.width))

    @property
    def targets(self) -> int:
        """The number of tokens that are predicted."""
        return int((self.size - 1).sum())


def plan_packed(ends: np.ndarray, width: int) -> Plan:
    """Packs documents, given the `ends` [documents] of each in the token stream (at least 2 tokens each)."""
    start, size = _pieces(ends, width)
    row = best_fit(size, width)
    order = np.lexsort((np.arange(len(size)), -size, row))  # in a row the longest stands first
    first = np.searchsorted(row[order], np.arange(row.max() + 2))
    return Plan(start[order], size[order], first, width)


def plan_single(ends: np.ndarray, width: int) -> Plan:
    """One document a row, cut off at `width` tokens."""
    start = np.concatenate([[0], ends[:-1]])
    return Plan(start, np.minimum(ends - start, width), np.arange(len(ends) + 1), width)


def _pieces(ends: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and size of the pieces of each document: `width` tokens, each beginning with the last of the one before."""
    begins = np.concatenate([[0], ends[:-1]])
    step = width - 1
    count = -(-(ends - begins - 1) // step)  # every token but the first is a target of one piece
    number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    start = np.repeat(begins, count) + number * step
    return start, np.minimum(width, np.repeat(ends, count) - start)


def best_fit(sizes: np.ndarray, width: int) -> np.ndarray:
    """The row of each piece [pieces]: longest piece first, into the row with the least free space that takes it."""
    row = np.empty(len(sizes), np.int64)
    full = np.flatnonzero(sizes == width)
    row[full] = np.arange(len(full))
    rows, free = len(full), 0  # bit s of `free` is set where some row has s places left
    with_space: list[list[int]] = [[] for _ in range(width)]
    shortest = int(sizes.min(initial=width))
    order = np.argsort(-sizes, kind="stable")[len(full) :]
    for piece, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        fitting = free >> size
        if fitting:
            space = size + (fitting & -fitting).bit_length() - 1
            chosen = with_space[space].pop()
            if not with_space[space]:
                free ^= 1 << space
        else:
            space, chosen, rows = width, rows, rows + 1
        row[piece] = chosen
        left = space - size
        if left >= shortest:
            with_space[left].append(chosen)
            free |= 1 << left
    return row


class PackedRows:
    """Random access to the rows of a plan over a token stream."""

    def __init__(self, tokens: np.ndarray, plan: Plan):
        self.tokens, self.plan = np.asarray(tokens), plan

    def __len__(self) -> int:
        return self.plan.rows

    def gather(self, indices: np.ndarray) -> Batch:
        """tokens, segments, positions of the rows `indices` [b], each int32 [b, width].

        Segments count the pieces of a row from 1, positions the tokens of a piece from 0; padding is 0 in all three.
        """
        plan, indices = self.plan, np.asarray(indices, np.int64)
        count = plan.first[indices + 1] - plan.first[indices]
        number = _within(count)  # of each piece in its row
        piece = np.repeat(plan.first[indices], count) + number
        size = plan.size[piece]
        before = np.cumsum(size) - size
        row_begin = np.repeat(before[np.cumsum(count) - count], count) if len(indices) else before
        row = np.repeat(np.arange(len(indices)), count)
        position = _within(size)
        place = np.repeat(row * plan.width + before - row_begin, size) + position
        values = {
            "tokens": self.tokens[np.repeat(plan.start[piece], size) + position],
            "segments": np.repeat(number + 1, size),
            "positions": position,
        }
        batch = {}
        for name, value in values.items():
            batch[name] = np.zeros((len(indices), plan.width), np.int32)
            batch[name].reshape(-1)[place] = value
        return batch


def _within(counts: np.ndarray) -> np.ndarray:
    """0 .. count - 1 for each of `counts`, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)

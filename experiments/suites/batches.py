"""Rows of tokens of any length as batches of few shapes, so that few programs are compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from arch.decode.generate import BUCKET


def batches(
    rows: Sequence[Sequence[int]], size: int, longest: int
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """`size` rows at a time, those of a length together: (which, tokens, segments), int32 [size, T], segment 0 behind a
    row's end and in the rows that fill up the last batch. T is a multiple of BUCKET, at most `longest`."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for start in range(0, len(rows), size):
        which = order[start : start + size]
        width = min(-(-max(len(rows[index]) for index in which) // BUCKET) * BUCKET, longest)
        tokens, segments = np.zeros((2, size, width), np.int32)
        for place, index in enumerate(which):
            tokens[place, : len(rows[index])] = rows[index]
            segments[place, : len(rows[index])] = 1
        yield which, tokens, segments

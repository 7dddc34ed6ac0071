"""Rows of data: what an order goes over and batches are gathered from."""

from __future__ import annotations

from typing import Protocol

import numpy as np

Batch = dict[str, np.ndarray]


class Rows(Protocol):
    """Random access to rows, many at a time."""

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> Batch:
        """The rows `indices` [b], as arrays with b rows each, in that order."""

"""Windows at random places of files, where fixed cuts would be few: every byte comes at every place of a row.

A window lies within one file. All places where one can start are equally likely, so a file counts by its length.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import numpy as np

from arch.spec import Problem, Spec, at_least


@dataclasses.dataclass(frozen=True)
class RandomWindows(Spec):
    """`each` windows of every class, drawn with replacement: they overlap, and a few may be equal.

    `seed` is not the run's: all seeds of a study see the same windows.
    """

    each: int = 5_000
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "each")
        yield from at_least(self, 0, "seed")

    def draw(self, files: Sequence[bytes], length: int, name: str) -> np.ndarray:
        """uint8 [each, length], from `files`; [0, length] if none is that long. Each `name` has places of its own."""
        starts = np.array([max(len(file) - length + 1, 0) for file in files], np.int64)
        ends = np.cumsum(starts)
        if not len(files) or not ends[-1]:
            return np.zeros((0, length), np.uint8)
        chance = random.Random(f"{self.seed} {name}")  # its random() gives the same numbers in every Python
        places = np.array([int(chance.random() * int(ends[-1])) for _ in range(self.each)])
        which = np.searchsorted(ends, places, side="right")
        first = places - (ends - starts)[which]
        found = [np.frombuffer(files[file], np.uint8)[at : at + length] for file, at in zip(which, first, strict=True)]
        return np.stack(found)

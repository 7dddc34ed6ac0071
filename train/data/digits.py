"""Scikit-learn's handwritten digits: 1,797 images of 8 x 8 in 17 shades, inside the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, at_least
from train.data import cache
from train.data.base import Data, Progress
from train.data.images import ImageDataset, ImageRows, image_arrays

COUNT = 1797


@dataclasses.dataclass(frozen=True)
class Digits(Data):
    """Images [8, 8, 1] of the digits 0 to 9.

    Attributes:
      held_out: images to validate on, drawn at random; the other ones are trained on.
      split: seed of that draw. It is not the run's: all seeds of a study validate on the same images.
    """

    held_out: int = 397
    split: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "split")
        if not 1 <= self.held_out < COUNT:
            yield Problem("held_out", self.held_out, f"must be from 1 to {COUNT - 1}; there are {COUNT} images")

    def arrays(self, batch: int) -> dict[str, tuple[tuple[int, ...], type]]:
        return image_arrays(batch, (8, 8, 1))

    def build(self, progress: Progress | None = None) -> ImageDataset:
        from sklearn.datasets import load_digits  # slow to import

        found = load_digits()
        images, labels = (found.images / 16).astype(np.float32)[..., None], found.target
        order = np.random.default_rng(self.split).permutation(COUNT)
        held_out, rest = order[: self.held_out], order[self.held_out :]
        rows = [ImageRows(images[part], labels[part]) for part in (rest, held_out)]
        return ImageDataset(rows[0], rows[1], 10, cache.digest("sklearn digits", self.held_out, self.split))

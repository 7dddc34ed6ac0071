"""Scikit-learn's handwritten digits: 1,797 images of 8 x 8 in 17 shades, inside the package."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from arch.spec import Problem, UserError, at_least
from train.data import cache
from train.data.base import Data, Dataset, Progress
from train.data.description import Description
from train.data.images import ImageRows, image_arrays

COUNT = 1797


@dataclasses.dataclass(frozen=True)
class Digits(Data):
    """Images [8, 8, 1] of the digits 0 to 9.

    Attributes:
      held_out: images to validate on, drawn at random.
      test: images to test on, of the others; 0: there is no test split. What is left is trained on.
      split: seed of the draw. It is not the run's: all seeds of a study are evaluated on the same images.
    """

    held_out: int = 397
    test: int = 300
    split: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "split", "test")
        if not 1 <= self.held_out < COUNT:
            yield Problem("held_out", self.held_out, f"must be from 1 to {COUNT - 1}; there are {COUNT} images")
        elif self.trained < 1:
            yield Problem("test", self.test, f"must leave something for training of the {COUNT - self.held_out} images")

    @property
    def trained(self) -> int:
        """How many images are trained on."""
        return COUNT - self.held_out - self.test

    def describe(self) -> Description:
        splits = ("train", "validation", *(("test",) if self.test else ()))
        return Description(image_arrays((8, 8, 1)), splits, classes=10)

    def build(self, progress: Progress | None = None) -> Dataset:
        table = np.loadtxt(_file(), delimiter=",", dtype=np.int32)
        images = table[:, :-1].reshape(-1, 8, 8, 1).astype(np.float32) / np.float32(16)
        labels = table[:, -1]
        order = np.random.default_rng(self.split).permutation(COUNT)
        validation, test, train = np.split(order, [self.held_out, self.held_out + self.test])
        parts = {"train": train, "validation": validation, "test": test}
        rows = {split: ImageRows(images[parts[split]], labels[parts[split]]) for split in self.describe().splits}
        return Dataset(rows, self.describe(), cache.digest("sklearn digits", self.held_out, self.test, self.split))


def _file() -> Path:
    """The package's own file: 64 shades from 0 to 16 and the digit on each line. The package is not imported, which
    would take seconds."""
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise UserError("the digits are a part of scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if not path.exists():
        raise UserError(f"{path}: not there; this version of scikit-learn keeps its digits elsewhere")
    return path

"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): 70,000 images of 28 x 28, in a Debian package."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from arch.spec import Problem, UserError, at_least
from train.data import cache
from train.data.bars import bars
from train.data.base import Data, Dataset, Progress
from train.data.debian import FASHION_MNIST, deb_files, fetch_deb
from train.data.description import Description
from train.data.images import ImageRows, image_arrays

FOLDER = "usr/share/datasets/fashion-mnist/"
TRAIN, TEST = 60_000, 10_000
SIDE = 28


@dataclasses.dataclass(frozen=True)
class FashionMNIST(Data):
    """Images [28, 28, 1] of ten kinds of clothing.

    Attributes:
      held_out: of the training images, drawn at random, to validate on.
      trained: how many of the others are trained on; None: all.
      tested: how many of the test images are tested on, the first ones; None: all.
      split: seed of the draw, which is not the run's.
      folder: has the package; None: $STRATA_SOURCES, else it is fetched, 31 MB.
    """

    held_out: int = 5_000
    trained: int | None = None
    tested: int | None = None
    split: int = 0
    folder: str | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "split")
        yield from at_least(self, 1, "held_out", "trained", "tested")
        if self.held_out + (self.trained or 1) > TRAIN:
            yield Problem("held_out", self.held_out, f"must leave {self.trained or 1} of {TRAIN:,} images to train on")

    def describe(self) -> Description:
        return Description(image_arrays((SIDE, SIDE, 1)), ("train", "validation", "test"), classes=10)

    def build(self, progress: Progress | None = None) -> Dataset:
        package = FASHION_MNIST["fashion-mnist"]
        with bars(progress) as report:
            images = _read(fetch_deb(package, self.folder, report))
        order = np.random.default_rng(self.split).permutation(TRAIN)
        last = None if self.trained is None else self.held_out + self.trained
        parts = {"validation": order[: self.held_out], "train": order[self.held_out : last]}
        rows = {
            split: ImageRows(images["train"][0][which], images["train"][1][which]) for split, which in parts.items()
        }
        tested = slice(self.tested)
        rows["test"] = ImageRows(images["t10k"][0][tested], images["t10k"][1][tested])
        key = cache.digest("fashion mnist", package.sha256, self.held_out, self.trained, self.tested, self.split)
        return Dataset({split: rows[split] for split in self.describe().splits}, self.describe(), key)


def _read(deb: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """ "train" and "t10k" -> images, uint8 [n, 28, 28, 1], and labels [n]. Raises UserError for another layout."""
    files = {path.removeprefix(FOLDER): gzip.decompress(raw) for path, raw in deb_files(deb, _wanted)}
    found = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        images, labels = (files.get(f"{part}-{name}-ubyte.gz", b"") for name in ("images-idx3", "labels-idx1"))
        if (len(images), len(labels)) != (16 + count * SIDE * SIDE, 8 + count):
            raise UserError(f"{deb} does not hold {count:,} images of {part} in IDX files; fetch the package again")
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(count, SIDE, SIDE, 1)
        found[part] = pixels, np.frombuffer(labels, np.uint8, offset=8)
    return found


def _wanted(path: str) -> bool:
    return path.startswith(FOLDER) and path.endswith("-ubyte.gz")

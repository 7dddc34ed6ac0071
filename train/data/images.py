"""Labelled images: rows in memory, and any image data set of the TFDS catalogue, such as mnist or cifar10.

A batch has `image`, float32 [b, H, W, C] in [0, 1], `label`, int32 [b], and `weight`, float32 [b]: 1, and 0 for the
rows that fill up a batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from arch.spec import Problem, UserError
from train.data import cache, disjoint
from train.data.base import Data, Dataset, Progress
from train.data.catalogue import Tfds
from train.data.description import Description, Shape
from train.data.labels import labelled
from train.data.rows import Batch

READ_AT_ONCE = 4096


class ImageRows:
    """Images [n, H, W, C] with their labels [n], in memory. Images of bytes become fractions of 255 when gathered."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> Batch:
        images = self.images[indices]
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        return {"image": images, "label": self.labels[indices], "weight": np.ones(len(indices), np.float32)}


def image_arrays(image: tuple[int, int, int]) -> dict[str, tuple[Shape, type]]:
    """Name -> (shape of a row, dtype) of the arrays in a batch of images."""
    return {"image": (image, np.float32), "label": ((), np.int32), "weight": ((), np.float32)}


@dataclasses.dataclass(frozen=True)
class TfdsImages(Data):
    """An image data set of the catalogue by name: TfdsImages(Tfds("cifar10", validation="test"), (32, 32, 3)).

    Attributes:
      source: the data set and its splits.
      shape: H, W and C of an image.
      image: the feature that holds it.
      label: the feature that holds its class.
    """

    source: Tfds = Tfds("mnist", validation="test")
    shape: tuple[int, int, int] = (28, 28, 1)
    image: str = "image"
    label: str = "label"

    def problems(self) -> Iterator[Problem]:
        if min(self.shape) < 1:
            yield Problem("shape", self.shape, "must be height, width and channels, each at least 1")

    def describe(self) -> Description:
        return Description(image_arrays(self.shape), self.source.splits)

    def build(self, progress: Progress | None = None) -> Dataset:
        """Reads the splits into memory, without images that have no label (-1) and without those to train on that also
        stand in a split that is evaluated on. Raises UserError for features that the data set does not have."""
        import tensorflow_datasets as tfds

        builder, splits = self.source.records()
        features = dict(builder.info.features.items())
        for name, kind in ((self.image, tfds.features.Image), (self.label, tfds.features.ClassLabel)):
            if not isinstance(features.get(name), kind):
                kinds = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
                raise UserError(f"{self.source.name}: no {kind.__name__} feature {name!r}; it has {kinds}")
        shape = tuple(features[self.image].shape)
        if any(size is not None and size != own for size, own in zip(shape, self.shape, strict=True)):
            raise UserError(f"{self.source.name}: its images have the shape {shape}, not shape={self.shape}")
        classes = features[self.label].num_classes
        found = {split: self._arrays(records) for split, records in splits.items()}
        which = self._kept(found, classes)
        rows = {split: ImageRows(*(array[which[split]] for array in arrays)) for split, arrays in found.items()}
        dropped = {split: len(labels) - len(which[split]) for split, (_, labels) in found.items()}
        name = self.source.identity()
        name = cache.digest(name, "without", dropped) if any(dropped.values()) else name
        return Dataset(rows, dataclasses.replace(self.describe(), classes=classes), name)

    def _kept(self, found: dict[str, tuple[np.ndarray, np.ndarray]], classes: int) -> dict[str, np.ndarray]:
        """Split -> which of its images are read."""
        name = self.source.name
        which = {split: labelled(labels, classes, f"{name}, split {split!r}") for split, (_, labels) in found.items()}

        def keys(split: str) -> Iterator[tuple[int, tuple[bytes]]]:
            return ((index, (hashlib.sha256(found[split][0][index].tobytes()).digest(),)) for index in which[split])

        repeated = disjoint.repeated(found, keys)
        disjoint.tell(name, repeated, "images")
        for split, numbers in repeated.items():
            which[split] = np.setdiff1d(which[split], numbers)
            if not len(which[split]):
                raise UserError(f"{name}: each image of {split!r} also stands in a split that is evaluated on")
        return which

    def _arrays(self, records: Any) -> tuple[np.ndarray, np.ndarray]:
        images, labels = np.empty((len(records), *self.shape), np.uint8), np.empty(len(records), np.int32)
        for first in range(0, len(records), READ_AT_ONCE):
            indices = range(first, min(first + READ_AT_ONCE, len(records)))
            for index, record in zip(indices, records.__getitems__(indices), strict=True):
                image = np.asarray(record[self.image])
                if image.shape != self.shape:
                    raise UserError(f"{self.source.name}: record {index} has an image of {image.shape}, "
                                    f"not shape={self.shape}")  # fmt: skip
                images[index], labels[index] = image, record[self.label]
        return images, labels

"""Labelled images: the digits of scikit-learn, and image data sets of the catalogue."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from arch.spec import SpecError, UserError
from train.data import Tfds
from train.data.digits import Digits
from train.data.images import TfdsImages


@pytest.fixture(scope="module")
def digits():
    return Digits().build()


def test_digits_are_scikit_learns(digits):
    """Every image is in one of the splits once, in [0, 1], with its own label."""
    parts = [rows.gather(np.arange(len(rows))) for rows in digits.rows.values()]
    assert [len(part["label"]) for part in parts] == [1100, 397, 300]
    images = np.concatenate([part["image"] for part in parts])
    labels = np.concatenate([part["label"] for part in parts])
    assert (images.shape, images.dtype, labels.dtype) == ((1797, 8, 8, 1), np.float32, np.int32)
    assert (images.min(), images.max()) == (0.0, 1.0)
    known = load_digits()
    row = lambda image, label: (*(image * 16).astype(int).ravel().tolist(), int(label))  # noqa: E731
    found = sorted(map(row, images, labels))
    assert found == sorted(row(image / 16, label) for image, label in zip(known.images, known.target, strict=True))
    assert digits.classes == 10


def test_the_split_is_seeded_and_mixed(digits):
    again, other = Digits().build(), Digits(split=1).build()
    labels = [one.rows["validation"].labels.tolist() for one in (digits, again, other)]
    assert labels[0] == labels[1] != labels[2]
    assert digits.fingerprint == again.fingerprint != other.fingerprint
    counts = np.bincount(digits.rows["validation"].labels, minlength=10)
    assert counts.min() > 20


def test_the_images_to_test_on_were_trained_on_before(digits):
    """The validation split is what it was without a test split; train loses just the test images."""
    without = Digits(test=0).build()
    whole = {split: rows.gather(np.arange(len(rows))) for split, rows in without.rows.items()}
    parts = {split: rows.gather(np.arange(len(rows))) for split, rows in digits.rows.items()}
    assert list(whole) == ["train", "validation"]
    np.testing.assert_array_equal(whole["validation"]["image"], parts["validation"]["image"])
    both = np.concatenate([parts["test"]["image"], parts["train"]["image"]])
    np.testing.assert_array_equal(whole["train"]["image"], both)


def test_batches_are_what_the_description_says(digits):
    batch = next(digits.train(32, 0))
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        name: (shape, np.dtype(dtype)) for name, (shape, dtype) in Digits().describe().batch(32).items()
    }
    assert (batch["weight"] == 1).all()
    last = list(digits.validation(64))[-1]
    assert last["weight"].sum() == 397 - 6 * 64
    assert (last["image"][13:] == 0).all()


def test_digits_refuse():
    with pytest.raises(SpecError, match=r"Digits\.held_out=1797: must be from 1 to 1796"):
        Digits(held_out=1797)
    with pytest.raises(SpecError, match=r"Digits\.test=1400: must leave something for training of the 1400 images"):
        Digits(test=1400)


def png(image):
    """A file with `image`; given as an array, TFDS would need TensorFlow to encode it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    file.seek(0)
    return file


class CatalogueImages(tfds.core.GeneratorBasedBuilder):
    """A builder with the features of mnist and cifar10; image i is filled with i."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(4, 5, 3)), "label": tfds.features.ClassLabel(num_classes=7)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 30), "test": self._generate_examples(30, 40)}

    def _generate_examples(self, low, high):
        for i in range(low, high):
            yield i, {"image": png(np.full((4, 5, 3), i, np.uint8)), "label": i % 7}


class SomeLabels(CatalogueImages):
    """Every fifth image has no label; images 3 and 4 are 33 and 34 of test."""

    def _generate_examples(self, low, high):
        for i, record in super()._generate_examples(low, high):
            image = png(np.full((4, 5, 3), i + 30 if i in (3, 4) else i, np.uint8))
            yield i, {"image": image, "label": -1 if i % 5 == 0 else record["label"]}


CatalogueImages.url_infos = {}  # classes that are made of it have it too
SPEC = TfdsImages(Tfds("catalogue_images", validation="test"), (4, 5, 3))


def test_a_catalogue_set_is_read():
    dataset = SPEC.build()
    assert dataset.classes == 7
    batch = dataset.rows["train"].gather(np.arange(30))
    numbers = np.rint(batch["image"] * 255).astype(int)
    assert sorted(numbers[:, 0, 0, 0].tolist()) == list(range(30))
    np.testing.assert_array_equal(batch["label"], numbers[:, 3, 4, 2] % 7)
    assert batch["image"].dtype == np.float32
    assert batch["image"].max() <= 1
    assert len(dataset.rows["validation"]) == 10
    assert {name: (array.shape[1:], array.dtype.type) for name, array in batch.items()} == SPEC.describe().arrays
    assert dataset.description.splits == SPEC.describe().splits == ("train", "validation")


def test_images_without_a_label_and_those_of_test_are_left_out(caplog):
    dataset = TfdsImages(Tfds("some_labels", validation="test"), (4, 5, 3)).build()
    found = {split: rows.gather(np.arange(len(rows))) for split, rows in dataset.rows.items()}
    numbers = {s: sorted(np.rint(batch["image"][:, 0, 0, 0] * 255).astype(int)) for s, batch in found.items()}
    assert numbers["train"] == [i for i in range(30) if i % 5 and i not in (3, 4)]
    assert numbers["validation"] == [i for i in range(30, 40) if i % 5]
    assert min(batch["label"].min() for batch in found.values()) >= 0
    lines = [record.message for record in caplog.records if record.name.startswith("train")]
    assert lines == [
        "some_labels, split 'train': 6 of 30 records have no label (-1); they are left out",
        "some_labels, split 'validation': 2 of 10 records have no label (-1); they are left out",
        "some_labels: 2 images of train also stand in a split that is evaluated on; they are left out of train",
    ]
    source = Tfds("some_labels", validation="test")
    assert dataset.fingerprint != source.identity()
    assert SPEC.build().fingerprint == SPEC.source.identity()


def test_a_catalogue_set_with_a_test_split():
    source = Tfds("catalogue_images", train="train[:20]", validation="train[20:]", test="test")
    dataset = TfdsImages(source, (4, 5, 3)).build()
    assert {split: len(rows) for split, rows in dataset.rows.items()} == {"train": 20, "validation": 10, "test": 10}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "picture"}, "no Image feature 'picture'; it has image"),
        ({"label": "image"}, "no ClassLabel feature 'image'"),
        ({"shape": (4, 5, 1)}, r"images have the shape \(4, 5, 3\), not shape=\(4, 5, 1\)"),
    ],
)
def test_another_layout_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SPEC, **changes).build()

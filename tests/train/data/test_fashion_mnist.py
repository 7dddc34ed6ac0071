"""Fashion-MNIST from a package of its layout, with few images."""

import gzip

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train.data.debs import pin_deb, write_deb
from train.data import FashionMNIST, fashion_mnist

FILE = "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb"
COUNTS = {"train": 20, "t10k": 6}


def idx(part, seed):
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (COUNTS[part], 28, 28), np.uint8), rng.integers(0, 10, COUNTS[part], np.uint8)
    return images, labels


@pytest.fixture
def package(tmp_path, monkeypatch):
    members = {}
    for seed, part in enumerate(COUNTS):
        images, labels = idx(part, seed)
        members[f"{fashion_mnist.FOLDER}{part}-images-idx3-ubyte.gz"] = gzip.compress(b"0" * 16 + images.tobytes())
        members[f"{fashion_mnist.FOLDER}{part}-labels-idx1-ubyte.gz"] = gzip.compress(b"0" * 8 + labels.tobytes())
    path = write_deb(tmp_path / "debs", FILE, members)
    pin_deb(monkeypatch, "FASHION_MNIST", "fashion-mnist", path)
    return path


def test_the_images_of_the_package(package, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "TRAIN", 20)
    monkeypatch.setattr(fashion_mnist, "TEST", 6)
    dataset = FashionMNIST(held_out=5, trained=12, tested=4).build()
    assert {split: len(rows) for split, rows in dataset.rows.items()} == {"train": 12, "validation": 5, "test": 4}
    images, labels = idx("t10k", 1)
    batch = dataset.rows["test"].gather(np.arange(4))
    np.testing.assert_array_equal(batch["image"][..., 0], images[:4].astype(np.float32) / np.float32(255))
    assert batch["label"].tolist() == labels[:4].tolist()
    flat = lambda split: {rows.tobytes() for rows in dataset.rows[split].images}  # noqa: E731
    assert not flat("train") & flat("validation")
    assert flat("train") | flat("validation") <= {image.tobytes() for image in idx("train", 0)[0]}
    assert len(FashionMNIST(held_out=5).build().rows["train"]) == 15
    assert dataset.fingerprint != FashionMNIST(held_out=5).build().fingerprint


def test_another_layout_is_refused(package):
    with pytest.raises(UserError, match="60,000 images of train"):
        FashionMNIST().build()
    with pytest.raises(SpecError, match="held_out"):
        FashionMNIST(held_out=60_000)

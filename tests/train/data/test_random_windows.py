"""Random training windows of packages: each in a file of its own package and split, with its label, by seed alone."""

import dataclasses

import numpy as np
import pytest

from arch.spec import SpecError
from train.data.packages import PackageBytes, divide, sources
from train.data.random_windows import RandomWindows

PACKAGES, LENGTH = ("json", "email", "urllib"), 48
CUT = PackageBytes(PACKAGES, length=LENGTH)
DRAWN = dataclasses.replace(CUT, windows=RandomWindows(each=700))


@pytest.fixture(scope="module")
def drawn():
    return DRAWN.build()


def rows(dataset, split, packages=PACKAGES):
    batch = dataset.rows[split].gather(np.arange(len(dataset.rows[split])))
    assert (batch["segments"] == 1).all()
    return [
        (bytes(row.astype(np.uint8)), packages[label])
        for row, label in zip(*map(batch.get, ("tokens", "label")), strict=True)
    ]


def test_windows_lie_inside_one_training_file_of_their_package(drawn):
    found = rows(drawn, "train")
    assert [package for _, package in found] == [package for package in PACKAGES for _ in range(700)]
    parts = {package: divide(sources(package), {"validation": 0.2, "test": 0.1}) for package in PACKAGES}
    for window, package in found:
        assert any(window in file for file in parts[package]["train"])


def test_the_other_splits_are_the_cuts_and_no_file_is_in_two(drawn):
    cut = CUT.build()
    for split in ("validation", "test"):
        assert rows(drawn, split) == rows(cut, split)
    for package in PACKAGES:
        parts = divide(sources(package), {"validation": 0.2, "test": 0.1})
        everything = [file for files in parts.values() for file in files]
        assert len(set(everything)) == len(everything) == len(sources(package))


def test_places_are_of_the_seed(drawn):
    train = rows(drawn, "train")
    assert rows(DRAWN.build(), "train") == train
    other = dataclasses.replace(DRAWN, windows=RandomWindows(700, seed=1)).build()
    assert rows(other, "train") != train
    assert len({one.fingerprint for one in (drawn, other, CUT.build())}) == 3


def test_more_windows_begin_with_those_there_were(drawn):
    """And another package leaves those of the first ones as they are."""
    more_packages = ("xml", *PACKAGES)
    more = dataclasses.replace(DRAWN, packages=more_packages, windows=RandomWindows(900)).build()
    first = [window for window, _ in rows(more, "train", more_packages)[900:1800]]  # the second class
    assert first[:700] == [window for window, _ in rows(drawn, "train")[:700]]


def test_every_place_is_as_likely():
    """Three files of 5, 1 and 10 bytes have 3 + 0 + 8 places for windows of 3; all come, about equally often."""
    files = [bytes(range(5)), bytes([99]), bytes(range(100, 110))]
    windows, counts = np.unique(RandomWindows(each=11_000).draw(files, 3, "a"), axis=0, return_counts=True)
    assert windows[:, 0].tolist() == [0, 1, 2, *range(100, 108)]
    assert (windows == windows[:, :1] + np.arange(3)).all()
    assert abs(counts - 1000).max() < 5 * 1000**0.5


def test_what_cannot_be_drawn():
    assert RandomWindows().draw([b"short"], 6, "a").shape == RandomWindows().draw([], 6, "a").shape == (0, 6)
    with pytest.raises(SpecError, match=r"RandomWindows\.each=0: must be at least 1"):
        RandomWindows(each=0)

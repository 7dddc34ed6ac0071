"""Halves of texts: pairs by hand, and that nothing but both pieces together tells a label."""

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train import toys
from train.data.base import Dataset
from train.data.description import Description
from train.data.halves import LEAST, NAMES, Halves, HalvesDataset
from train.data.order import InOrder
from train.data.reversal import Reversed

WIDTH = 21
ARRAYS = dict.fromkeys(("tokens", "segments"), ((WIDTH,), np.int32))


class Counting:
    """Row r holds a document of two tokens, then bos, 100 r + 10, 100 r + 11, ..., eos, of `sizes[r]` tokens between
    them, then padding."""

    def __init__(self, sizes):
        self.tokens, self.segments = np.zeros((2, len(sizes), WIDTH), np.int32)
        for row, size in enumerate(sizes):
            self.tokens[row, : size + 4] = [7, 7, 0, *(100 * row + 10 + np.arange(size)), 1]
            self.segments[row, : size + 4] = [1, 1] + [2] * (size + 2)

    def __len__(self):
        return len(self.tokens)

    def gather(self, indices):
        return {"tokens": self.tokens[indices], "segments": self.segments[indices]}


def counting(sizes):
    rows = Counting(sizes)
    return Dataset(
        {"train": rows, "validation": rows}, Description(ARRAYS, vocab=9999, mask=0, separator=1), "counting"
    )


def test_pairs_by_hand():
    """Texts of 8, 13, 7 (too short) and 10 tokens; the first and the last text are neighbours."""
    dataset = HalvesDataset(counting([8, 13, 7, 10]))
    rows = dataset.rows["train"]
    found = rows.gather(np.arange(len(rows)))
    assert {name: array.shape[1:] for name, array in found.items()} == {
        name: shape for name, (shape, _) in dataset.description.arrays.items()
    }
    starts, sizes = [10, 110, 310], [8, 13, 10]
    for pair, half in enumerate([4, 5, 4]):  # of the shorter of the text and the next
        other = pair if found["label"][pair] else (pair + 1) % 3
        first = starts[pair] + sizes[pair] // 2 - half + np.arange(half)
        second = starts[other] + sizes[other] // 2 + np.arange(half)
        for tokens, segments, wanted in ((*NAMES[:2], first), (*NAMES[2:], second)):
            np.testing.assert_array_equal(found[tokens][pair], np.pad(wanted, (0, WIDTH // 2 - half)))
            np.testing.assert_array_equal(found[segments][pair], np.arange(WIDTH // 2) < half)
    part = rows.gather(np.array([2, 0]))
    for name, array in part.items():
        np.testing.assert_array_equal(array, found[name][[2, 0]])


def test_both_labels_of_every_length_and_splits_and_seeds_that_differ():
    sizes = np.random.default_rng(0).integers(2 * LEAST, WIDTH - 3, 400)
    dataset, other = HalvesDataset(counting(sizes)), HalvesDataset(counting(sizes), seed=1)
    train, validation, seeded = (
        one.rows[split].gather(np.arange(400)) for one, split in
        ((dataset, "train"), (dataset, "validation"), (other, "train"))
    )  # fmt: skip
    assert 0.4 < train["label"].mean() < 0.6
    half = train["segments"].sum(axis=1)
    np.testing.assert_array_equal(half, train["segments2"].sum(axis=1))
    np.testing.assert_array_equal(half, np.minimum(sizes, np.roll(sizes, -1)) // 2)
    assert (train["label"] != validation["label"]).any()
    assert (train["label"] != seeded["label"]).any()
    assert dataset.fingerprint != other.fingerprint


def test_what_has_no_halves_is_refused():
    with pytest.raises(SpecError, match=r"data.*must have rows of text"):
        Halves(Reversed(length=8, vocab=9)).build()
    with pytest.raises(UserError, match=r"split 'train' has 1 rows with a text of at least 8 tokens"):
        HalvesDataset(counting([8, 7]))
    assert Halves(toys.Toy()).describe().arrays["tokens2"] == ((toys.LENGTH // 2,), np.int32)


def test_they_are_read_in_the_order_of_the_data():
    assert HalvesDataset(counting([2 * LEAST] * 4).ordered(InOrder())).order == InOrder()

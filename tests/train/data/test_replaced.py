"""Replaced tokens: what is labelled, what is never replaced, how often, and that a row is the same whenever asked."""

import dataclasses

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train import toys
from train.data.base import Dataset
from train.data.built import Built
from train.data.description import Description
from train.data.order import InOrder
from train.data.replaced import Replaced, ReplacedDataset, ReplacedRows, no_text
from train.data.reversal import Reversed

PLAIN = toys.Toy(test=5).build()
ALL = {split: np.arange(len(rows)) for split, rows in PLAIN.rows.items()}


def test_labels_say_what_differs_and_the_rest_is_as_it_was():
    dataset = Replaced(toys.Toy(test=5)).build()
    assert dataset.description.arrays == Replaced(toys.Toy(test=5)).describe().arrays
    assert dataset.description.splits == ("train", "validation", "test")
    for split, which in ALL.items():
        plain, found = PLAIN.rows[split].gather(which), dataset.rows[split].gather(which)
        assert {name: (array.shape[1:], array.dtype.type) for name, array in found.items()} == dict(
            dataset.description.arrays
        )
        for name in ("segments", "positions"):
            np.testing.assert_array_equal(found[name], plain[name][:, :-1])
        np.testing.assert_array_equal(found["labels"], found["tokens"] != plain["tokens"][:, :-1])
        np.testing.assert_array_equal(found["weights"], plain["segments"][:, :-1] > 0)
        assert not found["labels"][found["weights"] == 0].any()
        assert found["labels"].any()


def test_a_row_is_the_same_whenever_it_is_asked_and_another_with_another_seed():
    dataset, other = Replaced(toys.Toy()).build(), Replaced(toys.Toy(), seed=1).build()
    whole = dataset.rows["train"].gather(ALL["train"])
    part = dataset.rows["train"].gather(np.array([7, 3]))
    for name, array in part.items():
        np.testing.assert_array_equal(array, whole[name][[7, 3]])
    assert len({row.tobytes() for row in whole["labels"]}) > 30, "not all rows alike"
    assert (other.rows["train"].gather(ALL["train"])["tokens"] != whole["tokens"]).any()
    twice = Dataset(dict.fromkeys(("train", "validation"), PLAIN.rows["train"]), PLAIN.description, "")
    twice = ReplacedDataset(twice, 0.15)
    both = [twice.rows[split].gather(ALL["train"])["tokens"] for split in ("train", "validation")]
    assert (both[0] != both[1]).any()
    assert len({dataset.fingerprint, other.fingerprint, Replaced(toys.Toy(), rate=0.2).build().fingerprint}) == 3
    assert dataset.rows["train"].gather(np.array([], int))["tokens"].shape == (0, toys.LENGTH)


class Same:
    """Rows of token 1, with token 0 first and padding last."""

    def __init__(self, count, length):
        self.count, self.length = count, length

    def __len__(self):
        return self.count

    def gather(self, indices):
        tokens = np.ones((len(indices), self.length), np.int32)
        tokens[:, 0] = 0
        segments = np.ones_like(tokens)
        segments[:, -9:] = 0
        return {"tokens": tokens, "segments": segments}


def test_the_share_and_the_distribution_within_three_sigma_and_special_tokens_stay():
    unigram = np.array([0.0, 0.4, 0.3, 0.2, 0.1])
    found = ReplacedRows(Same(100, 1010), unigram, (0,), 0.3, (5,)).gather(np.arange(100))
    tokens, may = found["tokens"][:, 1:1001], 100 * 1000
    assert not found["labels"][:, 0].any()
    assert not found["labels"][:, 1001:].any()
    assert found["weights"].sum() == may
    for token, share in enumerate(0.3 * unigram):
        if token != 1:
            assert abs((tokens == token).mean() - share) <= 3 * np.sqrt(share * (1 - share) / may)
    labelled = 0.3 * 0.6  # a draw of the token itself counts as not replaced
    assert abs(found["labels"].sum() / may - labelled) < 3 * np.sqrt(labelled * (1 - labelled) / may)


def test_the_distribution_is_that_of_the_training_rows():
    arrays = PLAIN.rows["train"].gather(ALL["train"])
    counts = np.bincount(arrays["tokens"][arrays["segments"] > 0], minlength=toys.VOCAB)
    dataset = ReplacedDataset(PLAIN, 0.15)
    np.testing.assert_allclose(dataset.unigram, counts / counts.sum())
    named = dataclasses.replace(PLAIN.description, mask=3, separator=4)
    without = ReplacedDataset(Dataset(PLAIN.rows, named, "x"), 0.15).unigram
    counts[[3, 4]] = 0
    np.testing.assert_allclose(without, counts / counts.sum())


def test_what_cannot_be_replaced_is_refused():
    with pytest.raises(SpecError, match=r"data.*must have rows of text"):
        Replaced(Reversed(length=8, vocab=9)).build()
    arrays = {**toys.Toy().describe().arrays, "label": ((), np.int32)}
    assert "it has tokens, segments, positions, label" in no_text(Description(arrays))
    with pytest.raises(SpecError, match="rate=2"):
        Replaced(toys.Toy(), rate=2)
    nothing = Description(
        {"tokens": ((1010,), np.int32), "segments": ((1010,), np.int32)}, vocab=2, mask=0, separator=1
    )
    with pytest.raises(UserError, match="no token that may be replaced"):
        ReplacedDataset(Dataset({"train": Same(2, 1010)}, nothing, ""), 0.15)


def test_a_built_data_set_is_data():
    data = Built(PLAIN)
    assert data.build() is PLAIN
    assert data.describe() is PLAIN.description
    assert data.identity() == PLAIN.fingerprint
    assert repr(PLAIN) == f"Dataset({PLAIN.fingerprint!r})"


def test_they_are_read_in_the_order_of_the_data():
    assert ReplacedDataset(PLAIN.ordered(InOrder()), 0.15).order == InOrder()

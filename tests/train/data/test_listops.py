"""ListOps against an evaluator of its own, which works on the text."""

import dataclasses
import re
import statistics

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from train.data.listops import TOKENS, ListOps, text

SMALL = ListOps(length=40, shortest=6, train=300, validation=60, test=40, depth=4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        return SMALL.build()


def everything(rows):
    return rows.gather(np.arange(len(rows)))["tokens"]


def evaluate(expression):
    """The value of an expression: it is rewritten as Python and evaluated."""
    names = {"MIN": "min", "MAX": "max", "MED": "med", "SM": "total"}
    code = re.sub(r"\[(\w+) ", lambda match: f"{names[match[1]]}([", expression)
    code = re.sub(r" (?=\d|min|max|med|total)", ", ", code.replace(" ]", "])").replace("[ ", "["))
    tools = {"min": min, "max": max, "med": lambda v: int(statistics.median(v)), "total": lambda v: sum(v) % 10}
    return eval(code, {"__builtins__": {}}, tools)


def test_the_evaluator():
    assert evaluate("[MAX 2 9 [MIN 4 7 ] 0 ]") == 9
    assert evaluate("[SM 5 6 [MED 1 2 ] [MED 9 0 4 ] ]") == (5 + 6 + 1 + 4) % 10


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_labels_are_the_values(dataset, split):
    rows = dataset.rows[split]
    batch = rows.gather(np.arange(len(rows)))
    expressions = [text(row) for row in batch["tokens"]]
    assert [evaluate(expression) for expression in expressions] == batch["label"].tolist()
    assert len(set(expressions)) == len(rows) == getattr(SMALL, split)
    assert set(" ".join(expressions).split()) == set(TOKENS[1:])
    lengths = batch["segments"].sum(1)
    assert lengths.min() >= 6
    assert lengths.max() <= 40
    assert ((batch["tokens"] > 0) == (batch["segments"] > 0)).all()
    assert (batch["weight"] == 1).all()


def test_bounds_of_lists(dataset):
    depths, counts = [], []
    for row in dataset.rows["train"].gather(np.arange(300))["tokens"]:
        open_lists = []
        for token in text(row).split():
            if token == "]":
                counts.append(open_lists.pop())
            elif open_lists:
                open_lists[-1] += 1
            if token.startswith("["):
                open_lists.append(0)
                depths.append(len(open_lists))
    assert max(depths) == 4
    assert (min(counts), max(counts)) == (2, 5)


def test_no_expression_is_in_two_splits(dataset):
    splits = [{text(row) for row in everything(rows)} for rows in dataset.rows.values()]
    assert len(set.union(*splits)) == sum(map(len, splits)) == 400


def test_a_test_split_leaves_the_others_as_they_were(dataset):
    without = dataclasses.replace(SMALL, test=0).build()
    assert without.description.splits == ("train", "validation")
    for split, rows in without.rows.items():
        np.testing.assert_array_equal(everything(rows), everything(dataset.rows[split]))


def test_the_seed_makes_the_expressions(dataset):
    again, other = SMALL.build(), dataclasses.replace(SMALL, seed=1).build()
    first = np.arange(5)
    tokens = [one.rows["train"].gather(first)["tokens"] for one in (dataset, again, other)]
    np.testing.assert_array_equal(tokens[1], tokens[0])
    assert again.fingerprint == dataset.fingerprint != other.fingerprint
    assert (tokens[2] != tokens[0]).any()


def test_batches_have_the_announced_arrays(dataset):
    batch = next(dataset.train(8, seed=0))
    assert {name: (array.shape, array.dtype.type) for name, array in batch.items()} == SMALL.describe().batch(8)
    assert (dataset.classes, dataset.vocab) == (10, 16)
    last = list(dataset.validation(32))[-1]
    assert last["weight"].sum() == 60 - 32
    assert (last["segments"][28:] == 0).all()


def test_bounds_out_of_reach_are_told(monkeypatch):
    monkeypatch.setattr("train.data.listops.TRIES", 500)
    with pytest.raises(UserError, match=r"of 9 found\. Widen shortest=30"):
        ListOps(shortest=30, length=31, train=5, validation=4, test=0, depth=1, arguments=2).build()
    with pytest.raises(SpecError, match="length=5: must be at least shortest=8"):
        ListOps(length=5)

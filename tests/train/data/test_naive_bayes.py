"""Models of labels that only count, against loops over dictionaries."""

import math
from collections import Counter

import numpy as np
import pytest

from train.data import Digits, label_counts, naive_bayes
from train.data.base import Dataset
from train.data.baselines import Baseline
from train.data.description import Description
from train.data.labelled import Documents, LabelledDataset, LabelledRows, token_arrays
from train.data.listops import ListOps, ListOpsDataset
from train.objectives.classification import Classification

VOCAB, CLASSES, LENGTH = 5, 3, 9


class Weighted(LabelledRows):
    """Rows of which every third does not count, and whose label is not known."""

    def gather(self, indices):
        batch = super().gather(indices)
        hidden = indices % 3 == 1
        return {**batch, "weight": batch["weight"] * ~hidden, "label": np.where(hidden, -1, batch["label"])}


def made(count, seed, kind=LabelledRows):
    """Rows whose tokens depend on their label, of 0 to 12 tokens, sorted by label."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(CLASSES, count, p=[0.5, 0.3, 0.2]))
    sequences = [
        rng.choice(VOCAB, rng.integers(0, 13), p=np.roll([0.4, 0.3, 0.2, 0.1, 0.0], label)) for label in labels
    ]
    return kind(Documents.of(sequences, VOCAB), labels, LENGTH)


def dataset(kind=LabelledRows, cls=LabelledDataset, train=60, validation=25):
    description = Description(token_arrays(LENGTH), vocab=VOCAB, classes=CLASSES)
    return cls({"train": made(train, 0, kind), "validation": made(validation, 1, kind)}, description, "toy")


def examples(rows):
    """(tokens without padding, label) of the rows that count."""
    batch = rows.gather(np.arange(len(rows)))
    return [
        (tokens[segments > 0].tolist(), int(label))
        for tokens, segments, label, weight in zip(*(batch[name] for name in batch), strict=True)
        if weight
    ]


def grams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def plain(train, held, n):
    """(loss, accuracy) of naive Bayes; of the majority with n = 0."""
    counts = {
        c: Counter(g for tokens, label in train if label == c and n for g in grams(tokens, n)) for c in range(CLASSES)
    }
    known = set().union(*counts.values())
    nats = correct = 0.0
    for tokens, label in held:
        score = [
            math.log((sum(one == c for _, one in train) + 0.5) / (len(train) + 0.5 * CLASSES)) for c in range(CLASSES)
        ]
        for c in range(CLASSES):
            total = sum(counts[c].values()) + 0.01 * len(known)
            score[c] += sum(
                math.log((counts[c][g] + 0.01) / total) for g in (grams(tokens, n) if n else ()) if g in known
            )
        nats += math.log(sum(map(math.exp, score))) - score[label]
        correct += score.index(max(score)) == label
    return {"loss": pytest.approx(nats / len(held)), "accuracy": pytest.approx(correct / len(held))}


@pytest.mark.parametrize("kind", [LabelledRows, Weighted])
@pytest.mark.parametrize("block", [20, 1 << 22])
def test_the_models_are_the_formulas(kind, block, monkeypatch):
    monkeypatch.setattr(label_counts, "BLOCK", block)
    data = dataset(kind)
    train, held = examples(data.rows["train"]), examples(data.rows["validation"])
    found = Classification().baselines(data, "validation")
    names = ["majority", "naive Bayes", "naive Bayes on pairs", "naive Bayes on triples"]
    assert [model.name for model in found] == names
    assert [model.bar for model in found] == [False, True, False, False]
    for n, model in enumerate(found):
        assert model.values == plain(train, held, n)
    assert found[1].values["accuracy"] > found[0].values["accuracy"]


def test_the_majority_by_hand():
    """Labels 0 0 1 of 3 classes: p = 2.5, 1.5, 0.5 of 4.5. Of the labels 0 1 2 it knows a third."""
    parts = {"train": [0, 0, 1], "validation": [0, 1, 2]}
    rows = {s: LabelledRows(Documents.of([[1]] * 3, 4), np.array(labels), 1) for s, labels in parts.items()}
    model = label_counts.majority(Dataset(rows, Description(token_arrays(1), vocab=4, classes=3), "x"), "validation")
    nats = -(math.log(2.5 / 4.5) + math.log(1.5 / 4.5) + math.log(0.5 / 4.5)) / 3
    assert model == Baseline("majority", {"loss": pytest.approx(nats), "accuracy": pytest.approx(1 / 3)})


def test_naive_bayes_by_hand():
    """Class 0 has the tokens 1 1 2, class 1 the token 2: of a row 1 3, the 3 says nothing."""
    parts = {"train": [[1, 1, 2], [2]], "validation": [[1, 3]]}
    rows = {s: LabelledRows(Documents.of(documents, 4), np.arange(len(documents)), 3) for s, documents in parts.items()}
    data = Dataset(rows, Description(token_arrays(3), vocab=4, classes=2), "x")
    one, other = 2.01 / 3.02, 0.01 / 1.02
    values = naive_bayes.naive_bayes(data, "validation", 1).values
    assert values == {"loss": pytest.approx(-math.log(one / (one + other))), "accuracy": 1.0}


def test_large_training_data_is_counted_in_rows_that_lie_evenly(monkeypatch):
    """The rows are sorted by label: of the first ones alone nothing could be learned."""
    monkeypatch.setattr(naive_bayes, "MOST", 20 * LENGTH)
    data = dataset()
    train = examples(data.rows["train"])
    assert naive_bayes.naive_bayes(data, "validation", 2).values == plain(
        train[::3], examples(data.rows["validation"]), 2
    )


def test_what_does_not_fit_is_left_out(monkeypatch):
    data = dataset()
    assert naive_bayes.naive_bayes(data, "validation", LENGTH + 1) is None
    assert naive_bayes.naive_bayes(data, "validation", 30) is None  # 5 ** 30 has no int64
    monkeypatch.setattr(naive_bayes, "TABLE", VOCAB * CLASSES)
    assert [m.name for m in Classification().baselines(data, "validation")] == ["majority", "naive Bayes"]


def test_pairs_of_texts_and_images_have_the_majority():
    data = dataset()
    arrays = {**data.description.arrays, "tokens2": ((LENGTH,), np.int32)}
    pairs = Dataset(data.rows, Description(arrays, vocab=VOCAB, classes=CLASSES), "pairs")
    for one in (pairs, Digits().build()):
        (model,) = Classification().baselines(one, "validation")
        assert (model.name, model.bar) == ("majority", True)
    assert model.values["accuracy"] == pytest.approx(0.1, abs=0.03)
    assert model.values["loss"] == pytest.approx(math.log(10), abs=0.05)


def test_rows_that_do_not_count_make_no_number_of_their_own():
    class Hidden(LabelledRows):
        def gather(self, indices):
            return {**super().gather(indices), "weight": np.zeros(len(indices), np.float32)}

    for model in Classification().baselines(dataset(Hidden), "validation"):
        assert model.values == {"loss": 0.0, "accuracy": 0.0}


def test_listops_knows_its_operator(tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    data = ListOps(length=40, shortest=6, train=300, validation=60, test=40, depth=4).build()
    assert isinstance(data, ListOpsDataset)
    found = {model.name: model for model in Classification().baselines(data, "test")}
    assert [name for name, model in found.items() if model.bar] == ["operator alone"]
    train, held = ([(t[0], label) for t, label in examples(data.rows[s])] for s in ("train", "test"))
    counts, nats, correct = Counter(train), 0.0, 0
    for operator, label in held:
        p = [counts[operator, c] + 0.5 for c in range(10)]
        nats -= math.log(p[label] / sum(p))
        correct += p.index(max(p)) == label
    values = {"loss": pytest.approx(nats / len(held)), "accuracy": pytest.approx(correct / len(held))}
    assert found["operator alone"].values == values
    assert 0 < found["majority"].values["accuracy"] < found["operator alone"].values["accuracy"]

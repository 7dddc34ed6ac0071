"""Own second sides and those of neighbours, in the same document, with labels that nothing beside the texts tells."""

import dataclasses

import numpy as np
import pytest

from arch.spec import UserError
from train.data.description import Description
from train.data.parallel import ParallelCorpus, ParallelSource
from train.data.same_pair import neighbours, same_pair
from train.data.tokenizers import Bytes

COUNTS = {"a": 5, "b": 1, "c": 2}
"""Pairs of each document; pair 2 of a: "a2 in English" and "a2 auf Deutsch"."""
LENGTH = 12


@dataclasses.dataclass(frozen=True)
class Pairs(ParallelSource):
    named: bool = True

    def identity(self):
        return f"pairs {self.named}"

    def build(self, progress=None):
        records = [{"source": f"{name}{n} in English", "target": f"{name}{n} auf Deutsch", "document": name}
                   for name, count in COUNTS.items() for n in range(count)] * 40  # fmt: skip
        return ParallelCorpus(Corpus({"train": records, "validation": records}, self.named))


@dataclasses.dataclass
class Corpus:
    splits: dict
    named: bool

    @property
    def features(self):
        return ("source", "target", *(["document"] if self.named else []))

    def columns(self, split, *names):
        return (tuple(record[name] for name in names) for record in self.splits[split])


def built(seed=0, **fields):
    tokenizer = Bytes().build(None, lambda *_: None)
    about = Description({}, vocab=300, mask=299, token_bytes=np.ones(300, np.int64))
    return same_pair(Pairs(**fields), tokenizer, LENGTH, about, seed), tokenizer


def test_neighbours_are_of_the_same_document():
    own, after = neighbours(("a", "b", "a", "c", "a", "c"))
    assert dict(zip(own.tolist(), after.tolist(), strict=True)) == {0: 2, 2: 4, 4: 0, 3: 5, 5: 3}


def test_a_label_is_whether_both_sides_are_of_one_pair():
    dataset, tokenizer = built()
    rows = dataset.rows["train"]
    batch = rows.gather(np.arange(len(rows)))
    assert len(rows) == 40 * sum(COUNTS.values()), "every document has neighbours, the records come forty times"
    for row, label in enumerate(batch["label"]):
        first, second = (tokenizer.decode(batch[f"tokens{side}"][row][batch[f"segments{side}"][row] > 0].tolist())
                         for side in ("", "2"))  # fmt: skip
        assert (first[2:], second[2:]) == (" in English"[: LENGTH - 3], " auf Deutsch"[: LENGTH - 3])
        assert first[0] == second[0], "of one document"
        if label == 1:
            assert first[:2] == second[:2]
    assert batch["tokens"][:, 0].tolist() == [tokenizer.bos] * len(rows)
    assert 0.4 < batch["label"].mean() < 0.6
    differ = [batch["tokens"][row][2] != batch["tokens2"][row][2] for row in range(len(rows))]
    of_a = batch["tokens"][:, 1] == ord("a")
    np.testing.assert_array_equal(np.array(differ)[of_a], batch["label"][of_a] == 0)


def test_labels_are_drawn_by_seed_and_split():
    one, again, other = (built(seed)[0] for seed in (0, 0, 1))
    labels = {name: rows.labels.tolist() for name, rows in one.rows.items()}
    assert labels["train"] != labels["validation"]
    assert {name: rows.labels.tolist() for name, rows in again.rows.items()} == labels
    assert other.rows["train"].labels.tolist() != labels["train"]
    assert (one.fingerprint == again.fingerprint, one.fingerprint == other.fingerprint) == (True, False)
    assert (one.classes, one.description.vocab, one.description.mask) == (2, 300, 299)


def test_pairs_without_neighbours_are_refused(monkeypatch):
    with pytest.raises(UserError, match="Pairs does not say which document a pair is from"):
        built(named=False)
    lonely = [{"source": "x", "target": "y", "document": str(n)} for n in range(3)]
    corpus = ParallelCorpus(Corpus({"train": lonely, "validation": lonely}, named=True))
    monkeypatch.setattr(Pairs, "build", lambda self: corpus)
    with pytest.raises(UserError, match="no document of split 'train' has two pairs"):
        built()
    monkeypatch.setattr(Pairs, "build", lambda self: ParallelCorpus(Corpus({"train": [], "validation": []}, True)))
    with pytest.raises(UserError, match="no document of split 'train' has two pairs"):
        built()

"""Labelled text: documents with a class, windows of packages, pairs of pieces."""

import dataclasses
import email
from pathlib import Path

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train.data.conftest import sentences
from train.data import LocalText
from train.data.classes import TextClasses
from train.data.corpus import Corpus, Source
from train.data.labelled import Documents
from train.data.packages import PackageBytes, divide
from train.data.pairs import SameDocument


class Label:
    num_classes = 3


class Toy(Source):
    """Documents whose label is their number modulo three."""

    def identity(self):
        return "toy"

    def build(self, progress=None):
        records = [{"text": text, "label": i % 3} for i, text in enumerate(TEXTS)]
        return Corpus("toy", {"train": records[:30], "validation": records[30:]}, {"text": str, "label": Label()})


TEXTS = sentences(37)


def test_documents_are_cut_and_padded(tmp_path):
    documents = Documents.of([[1, 2, 3], [4], [5, 6, 7, 8, 9]], vocab=300)
    assert documents.tokens.dtype == np.uint16
    tokens, segments = documents.rows(np.array([2, 1, 0]), 4)
    np.testing.assert_array_equal(tokens, [[5, 6, 7, 8], [4, 0, 0, 0], [1, 2, 3, 0]])
    np.testing.assert_array_equal(segments, [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_array_equal(documents.rows(np.array([2, 0]), 2, skip=3)[0], [[8, 9], [0, 0]])
    documents.save(tmp_path, "a")
    np.testing.assert_array_equal(Documents.load(tmp_path, "a").rows(np.array([2, 1, 0]), 4)[0], tokens)


@pytest.mark.parametrize("length", [10, 400])
def test_text_with_classes(length):
    data = TextClasses(Toy(), length=length)
    dataset = data.build()
    assert (dataset.classes, dataset.vocab) == (3, 256)
    assert {split: len(rows) for split, rows in dataset.rows.items()} == {"train": 30, "validation": 7}
    batch = dataset.rows["train"].gather(np.arange(30))
    for row, (text, label) in enumerate(zip(TEXTS, [0, 1, 2] * 10, strict=False)):
        expected = (b"\0" + text.encode())[:length]
        assert bytes(batch["tokens"][row].astype(np.uint8))[: len(expected)] == expected
        assert batch["segments"][row].sum() == len(expected)
        assert batch["label"][row] == label
    assert {name: (array.shape[1:], array.dtype.type) for name, array in batch.items()} == data.describe().arrays
    assert data.build().fingerprint == dataset.fingerprint


def test_a_feature_that_is_no_class_is_refused():
    with pytest.raises(UserError, match=r"no ClassLabel feature 'text'; it has text \(type\), label \(Label\)"):
        TextClasses(Toy(), label="text").build()


@dataclasses.dataclass(frozen=True)
class SomeLabels(Toy):
    """`Toy` with other labels."""

    labels: tuple[int, ...] = ()

    def identity(self):
        return str(self.labels)

    def build(self, progress=None):
        corpus = super().build()
        records = [{"text": text, "label": label} for text, label in zip(TEXTS, self.labels, strict=True)]
        return dataclasses.replace(corpus, splits={"train": records[:30], "validation": records[30:]})


def test_documents_without_a_label_are_left_out(caplog):
    """-1 is "unknown" by the convention of TFDS: neither trained nor scored as a class."""
    labels = [i % 4 - 1 for i in range(37)]
    dataset = TextClasses(SomeLabels(tuple(labels)), length=10).build()
    for split, low, high in (("train", 0, 30), ("validation", 30, 37)):
        rows = dataset.rows[split]
        batch = rows.gather(np.arange(len(rows)))
        kept = [(TEXTS[i], labels[i]) for i in range(low, high) if labels[i] >= 0]
        assert [bytes(row.astype(np.uint8)) for row in batch["tokens"]] == [(b"\0" + t.encode())[:10] for t, _ in kept]
        assert batch["label"].tolist() == [label for _, label in kept]
    assert [record.message for record in caplog.records] == [
        "SomeLabels, split 'train': 8 of 30 records have no label (-1); they are left out",
        "SomeLabels, split 'validation': 2 of 7 records have no label (-1); they are left out",
    ]
    whole = TextClasses(SomeLabels((0,) * 37), length=10)
    assert whole.build().fingerprint != dataset.fingerprint
    assert TextClasses(Toy(), length=10).build().fingerprint == "988b03c7b61b8959a50d2604"


@pytest.mark.parametrize("label", [3, -2, 2**40])
def test_labels_that_are_no_class(label):
    data = TextClasses(SomeLabels((0,) * 5 + (label,) + (1,) * 31))
    line = rf"SomeLabels, split 'train': record 5 has the label {label}; labels are 0 to 2, or -1 where there is none"
    with pytest.raises(UserError, match=line):
        data.build()


def test_a_split_without_any_label():
    with pytest.raises(UserError, match=r"split 'validation': none of 7 records is labelled \(all are -1\); give"):
        TextClasses(SomeLabels((0,) * 30 + (-1,) * 7)).build()


def test_windows_of_packages():
    data = PackageBytes(packages=("json", "email", "urllib"), length=64)
    dataset = data.build()
    train, validation, test = (rows.gather(np.arange(len(rows))) for rows in dataset.rows.values())
    for batch in (train, validation, test):
        counts = np.bincount(batch["label"])
        assert len(counts) == 3
        assert (counts == counts[0]).all()
        assert (batch["segments"] == 1).all()
    assert {name: (array.shape[1:], array.dtype.type) for name, array in train.items()} == data.describe().arrays
    own = b"".join(path.read_bytes() for path in Path(email.__file__).parent.rglob("*.py"))
    for batch in (train, validation, test):
        for row in batch["tokens"][batch["label"] == 1][:20]:
            assert bytes(row.astype(np.uint8)) in own


def test_files_are_on_one_side_only():
    files = [bytes([i]) * (10 + i) for i in range(20)]
    parts = divide(files, {"validation": 0.2, "test": 0.1})
    assert parts["validation"] + parts["test"] + parts["train"] == files
    share = {split: sum(map(len, part)) / sum(map(len, files)) for split, part in parts.items()}
    assert 0.2 <= share["validation"] < 0.3
    assert 0.1 <= share["test"] < 0.2
    assert divide(files, {"validation": 0.2})["validation"] == parts["validation"]
    assert divide(files[:2], {"validation": 0.9, "test": 0.05}) == {
        "validation": files[:1],
        "test": [],
        "train": files[1:2],
    }


def test_packages_that_are_not_there():
    with pytest.raises(UserError, match="fewer than two files of 'nonsense'"):
        PackageBytes(packages=("json", "nonsense")).build()
    with pytest.raises(SpecError, match="must be two different ones at least"):
        PackageBytes(packages=("json", "json"))


def test_pairs(tmp_path):
    texts = sentences(60, low=20, high=40)
    (tmp_path / "text.txt").write_text("\n".join(texts))
    data = SameDocument(LocalText(str(tmp_path / "text.txt"), validation=0.3, test=0.2, per="line"), length=24)
    dataset = data.build()
    where = {text.encode()[:24]: i for i, text in enumerate(texts)}
    whose = {text.encode()[24:48]: i for i, text in enumerate(texts)}
    seen = []
    for rows in dataset.rows.values():
        batch = rows.gather(np.arange(len(rows)))
        first = [where[bytes(row.astype(np.uint8))] for row in batch["tokens"]]
        second = [whose[bytes(row.astype(np.uint8))] for row in batch["tokens2"]]
        assert [int(a == b) for a, b in zip(first, second, strict=True)] == batch["label"].tolist()
        assert sorted(first) == sorted(second) == sorted(set(first))
        assert abs(batch["label"].mean() - 0.5) <= 0.51 / len(rows)
        assert {name: (array.shape[1:], array.dtype.type) for name, array in batch.items()} == data.describe().arrays
        seen += first
    assert len(set(seen)) == len(seen)
    with pytest.raises(UserError, match=r"LocalText, split 'train': 0 documents have 2000 tokens"):
        SameDocument(data.source, length=1000).build()

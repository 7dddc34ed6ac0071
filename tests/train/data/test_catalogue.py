import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from arch.spec import SpecError, UserError
from tests.train.data.conftest import sentences
from train.data import Tfds


class CatalogueLike(tfds.core.GeneratorBasedBuilder):
    """A builder as a user has it; the documents are told apart by their numbers."""

    VERSION = tfds.core.Version("2.1.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 40), "test": self._generate_examples(40, 60)}

    def _generate_examples(self, low, high):
        for i in range(low, high):
            yield i, {"text": f"{sentences(60)[i]}<br />end", "label": np.int64(i % 2)}


CatalogueLike.url_infos = {}  # classes that are made of it have it too


class Leaky(CatalogueLike):
    """Documents 3 to 5 of train are those of test, in another case and with other white space."""

    def _generate_examples(self, low, high):
        for i, record in super()._generate_examples(low, high):
            leaked = {3: sentences(60)[41], 4: sentences(60)[42].upper(), 5: f" {sentences(60)[43]}\n"}
            yield i, {**record, "text": leaked.get(i, sentences(60)[i])}


class Broken(CatalogueLike):
    def _split_generators(self, dl_manager):
        raise ConnectionError("no route to the host\nand more")


class NeedsModule(CatalogueLike):
    def _split_generators(self, dl_manager):
        import a_module_nobody_has  # noqa: F401


def test_a_builder_is_prepared_and_read(capsys):
    corpus = Tfds("catalogue_like", validation="test").build()
    assert sorted(corpus.texts("train")) == sorted(f"{t}\nend" for t in sentences(60)[:40])
    assert sorted(corpus.texts("validation")) == sorted(f"{t}\nend" for t in sentences(60)[40:])


def test_line_breaks_can_stay_and_splits_can_be_parts():
    corpus = Tfds("catalogue_like", train="train[:75%]", validation="train[75%:]", line_breaks=False).build()
    texts = [*corpus.texts("train"), *corpus.texts("validation")]
    assert len(corpus.splits["train"]) == 30
    assert sorted(texts) == sorted(f"{t}<br />end" for t in sentences(60)[:40])


def test_documents_of_test_are_not_trained_on(caplog):
    source = Tfds("leaky", validation="train[:5]", train="train[5:]", test="test")
    plain = Tfds("leaky", validation="test")
    for one in (plain, source):
        corpus = one.build()
        texts = [{text.casefold().strip() for text in corpus.texts(split)} for split in one.splits]
        assert len(set.union(*texts)) == sum(map(len, texts))
    assert len(plain.build().splits["train"]) == 37
    line = "leaky: 3 documents of train also stand in a split that is evaluated on; they are left out of train"
    assert line in [record.message for record in caplog.records]
    assert plain.identity() != plain.key()
    apart = Tfds("catalogue_like", validation="test")
    assert apart.identity() == apart.key()


@pytest.mark.parametrize(
    ("train", "validation", "test", "line"),
    [
        ("train[:95%]", "train[90%:]", None, "train='train[:95%]' and validation='train[90%:]' share 2 records; give"),
        ("train", "train[95%:]", "test", "train='train' and validation='train[95%:]' share 2 records"),
        ("train", "test[:5]", "test[4:]+train[:1]", "train='train' and test='test[4:]+train[:1]' share 1 records"),
        ("train[:5]", "train[5:8]", "train[-33:]", "validation='train[5:8]' and test='train[-33:]' share 1 records"),
        ("all", "test", None, "train='all' and validation='test' share 20 records"),
        ("train[:20]", "train[-1:1]", None, "validation='train[-1:1]' has a part without records; give a larger one"),
        ("train[:5]+train[9:7]", "test", None, "train='train[:5]+train[9:7]' has a part without records"),
        ("train[50%:50%]", "test", None, "cannot open split 'train[50%:50%]' ("),
    ],
)
def test_parts_that_share_records(train, validation, test, line):
    source = Tfds("catalogue_like", train=train, validation=validation, test=test)
    for ask in (source.build, source.identity):
        with pytest.raises(UserError, match=re.escape(f"catalogue_like: {line}")):
            ask()


def test_the_identity_names_what_is_read():
    named = [Tfds("catalogue_like", validation="test"), Tfds("catalogue_like", validation="test[:50%]"),
             Tfds("catalogue_like", validation="test", line_breaks=False)]  # fmt: skip
    assert len({source.identity() for source in named}) == 3
    assert named[0].identity() == Tfds("catalogue_like", validation="test").identity()


def test_imdb_reviews_of_the_catalogue_drop_in(monkeypatch):
    """The real builder with made up records, since its own come over the network."""

    def records(self, split, **kwargs):
        return [{"text": f"{split} {i}<br />".encode(), "label": i % 2} for i in range(5)]

    monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda self: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", records)
    monkeypatch.setattr("train.data.catalogue.refuse_overlap", lambda *_: None)  # the sizes of splits come with them
    corpus = Tfds("imdb_reviews", validation="test").build()
    assert list(corpus.texts("train")) == [f"train {i}\n" for i in range(5)]
    assert list(corpus.texts("validation"))[-1] == "test 4\n"
    assert set(corpus.features) == {"text", "label"}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"name": "imdb_reviewz"}, "TFDS has no data set 'imdb_reviewz'; did you mean imdb_reviews"),
        ({"name": "broken"}, "TFDS cannot prepare broken in .*: ConnectionError: no route to the host"),
        ({"name": "needs_module"}, "TFDS needs the module 'a_module_nobody_has' to prepare needs_module: install"),
        ({"name": "catalogue_like"}, "cannot open split 'validation' .*; it has t.*, and parts of them such as"),
        ({"name": "catalogue_like", "validation": "test", "text": "label"}, "no text feature 'label'; it has .*label"),
        ({"name": "catalogue_like", "validation": "test", "text": "body"}, r"no text feature 'body'; .* text \(Text"),
        ({"name": "catalogue_like", "folder": "/no/such"}, "folder=/no/such: no such folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_clear_line(fields, line):
    with pytest.raises(UserError, match=line) as error:
        Tfds(**fields).build()
    assert "\n" not in str(error.value)


def test_damaged_records_are_one_clear_line(cache_folder):
    corpus = Tfds("catalogue_like", validation="test").build()
    record = next(cache_folder.rglob("*train.array_record*"))
    record.write_bytes(record.read_bytes()[:70000])
    with pytest.raises(UserError, match=r"records .* of 'train' cannot be read; the prepared data is damaged"):
        list(corpus.texts("train"))


def test_fields_that_are_not_defined():
    with pytest.raises(SpecError, match="must name a TFDS data set"):
        Tfds("")
    with pytest.raises(SpecError, match="must differ from the split trained on"):
        Tfds("x", train="train", validation="train")

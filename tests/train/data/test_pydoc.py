"""Python's reference text as a source."""

import builtins
import sys
import types

import pytest

from arch.spec import SpecError, UserError
from train.data.pydoc import PydocTopics
from train.data.text import Text


@pytest.fixture
def topics(monkeypatch):
    """A small `pydoc_data.topics` in place of the interpreter's."""
    text = {f"t{i}": f"Heading {i}\n****\n\nparagraph {i} says\n  something\n\nShared words." for i in range(60)}
    module = types.SimpleNamespace(topics=text)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    return text


def texts(source):
    corpus = source.build()
    return {split: list(corpus.texts(split)) for split in corpus.splits}


def test_paragraphs_stand_in_one_split_once(topics):
    found = texts(PydocTopics(validation=0.2, test=0.1))
    everything = [text for split in found.values() for text in split]
    assert set(found) == {"train", "validation", "test"}
    assert len(everything) == len(set(everything)) == 2 * 60 + 1
    assert texts(PydocTopics(validation=0.2, test=0))["validation"] == found["validation"]
    assert everything.count("Shared words.") == 1
    assert "paragraph 3 says\n  something" in everything
    assert 10 <= len(found["validation"]) <= 40


def test_identity_is_of_the_text_and_the_split(topics):
    first = PydocTopics().identity()
    assert PydocTopics().identity() == first
    assert PydocTopics(validation=0.2).identity() != first
    assert PydocTopics(test=0.1).identity() != first
    topics["t0"] += "\n\nMore."
    assert PydocTopics().identity() != first


def test_the_interpreters_own():
    found = texts(PydocTopics())
    assert sum(map(len, found["train"])) > 200_000
    assert 0.05 < len(found["validation"]) / sum(map(len, found.values())) < 0.15


def test_rows(topics):
    dataset = Text(source=PydocTopics(validation=0.2), length=16).build()
    assert next(dataset.train(4, seed=0))["tokens"].shape == (4, 17)


def test_an_interpreter_without_it(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "pydoc_data.topics":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match="has no pydoc_data"):
        PydocTopics().build()


def test_what_is_refused():
    with pytest.raises(SpecError, match="validation=0"):
        PydocTopics(validation=0.0)

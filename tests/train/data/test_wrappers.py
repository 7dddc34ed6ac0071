"""Data that is evaluated on further sets."""

import dataclasses

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from train.data import BPE, Digits, IMDbReviews, Text, WikiLeads
from train.data.wrappers import WithEvaluation
from train.objectives.next_token import NextToken

WIKI, IMDB = WikiLeads(validation=0.2, test=0.2), IMDbReviews(validation=0.2, test=0.2)


def text(source, **fields):
    return Text(source, length=32, **fields)


def test_further_sets_are_the_validation_splits_of_other_data(wiki, imdb):
    dataset = WithEvaluation(text(WIKI), (("films", text(IMDB)), ("leads", text(WIKI)))).build()
    assert dataset.description.splits == ("train", "validation", "test", "films", "leads")
    assert dataset.description.evaluated == ("validation", "test", "films", "leads")
    films, plain = text(IMDB).build(), text(WIKI).build()
    for split, expected in (("films", films.rows["validation"]), ("test", plain.rows["test"])):
        indices = np.arange(len(expected))
        for name, array in dataset.rows[split].gather(indices).items():
            np.testing.assert_array_equal(array, expected.gather(indices)[name])
    np.testing.assert_array_equal(next(dataset.train(4, 0))["tokens"], next(plain.train(4, 0))["tokens"])
    baselines = NextToken().baselines
    assert baselines(dataset, "validation") == baselines(plain, "validation")
    assert [model.name for model in baselines(dataset, "films")] == ["unigram", "bigram", "trigram"]
    assert baselines(dataset, "films") != baselines(dataset, "leads") == baselines(plain, "validation")


def test_sets_in_other_tokens_are_refused(wiki, imdb):
    with pytest.raises(UserError, match=r"films is in other tokens than the data trained on; give both the same"):
        WithEvaluation(text(WIKI, tokenizer=BPE(300)), (("films", text(IMDB, tokenizer=BPE(300))),)).build()
    shared = BPE(300, source=WIKI)
    WithEvaluation(text(WIKI, tokenizer=shared), (("films", text(IMDB, tokenizer=shared)),)).build()


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (Digits(), r"has other arrays \(image \[8, 8, 1\], label \[\], weight \[\]\) than .* \(tokens \[33\], seg"),
        (dataclasses.replace(text(WIKI), length=16), "has other arrays"),
        (text(WIKI, tokenizer=BPE(300)), r"has other vocab \(300\) than the data trained on \(256\)"),
    ],
)
def test_sets_of_another_kind_are_refused_before_anything_is_built(other, line):
    data = WithEvaluation(text(WIKI), (("digits", other),))
    (error,) = list(data.conflicts())[:1]
    assert isinstance(error, SpecError)
    with pytest.raises(SpecError, match=line):
        data.build()


@pytest.mark.parametrize("names", [("val",), ("train",), ("a/b",), ("",), ("a", "a")])
def test_names_that_are_taken(names):
    with pytest.raises(SpecError, match="names must be different words, and none of train, val"):
        WithEvaluation(text(WIKI), tuple((name, text(IMDB)) for name in names))

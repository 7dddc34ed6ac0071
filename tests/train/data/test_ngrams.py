import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from train.data import BPE, Bytes, LocalText, Text, grams, ngrams
from train.data.grams import Grams, count_grams, target_count
from train.data.packing import PackedRows, plan_packed, plan_single
from train.objectives.next_token import NextToken

WIDE = 10**6


class Padded:
    """The rows of others, of which nothing is known but what they hold."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def gather(self, indices):
        return self.rows.gather(indices)


def rows(documents, width=64, plan=plan_packed):
    stream = [token for document in documents for token in document]
    return PackedRows(np.array(stream, np.uint16), plan(np.cumsum([len(d) for d in documents]), width))


def targets(pieces):
    """(token before the one before or None, token before, target) of every target."""
    return [(p[i - 2] if i > 1 else None, p[i - 1], p[i]) for p in pieces for i in range(1, len(p))]


def cut(documents, width):
    """The pieces of documents as rows of `width` hold them."""
    return [d[i : i + width] for d in documents for i in range(0, len(d) - 1, width - 1)]


def chance(train, target, vocab, discounts):
    """p of a target by unigram, bigram, trigram: the formulas, from loops over the training targets."""
    first, before, token = target
    found = [(sum(t[2] == token for t in train) + 0.5) / (len(train) + 0.5 * vocab)]
    for length, d in enumerate(discounts, start=2):
        context = (before,) if length == 2 else (first, before)
        after = [t[2] for t in train if t[3 - length : 2] == context and None not in context]
        p = found[-1]
        if after:
            p = max(after.count(token) - d, 0) / len(after) + d * len(set(after)) / len(after) * p
        found.append(p)
    return found


def nats(train, held, vocab, discounts):
    """Of each model, the loss of all targets."""
    known = {target: chance(train, target, vocab, discounts) for target in set(held)}
    return [-sum(math.log(known[target][model]) for target in held) for model in range(len(discounts) + 1)]


def random_documents(seed, vocab, count=40):
    rng = np.random.default_rng(seed)
    return [[0, *np.minimum(rng.geometric(0.3, rng.integers(1, 30)), vocab - 1).tolist(), 0] for _ in range(count)]


def whole(documents, vocab, order=3):
    return count_grams(rows(documents), vocab, order, (0, WIDE))[0]


def code(target, vocab):
    first, before, token = target
    return ((vocab if first is None else first) * vocab + before) * vocab + token


def losses(train, held_out, vocab, token_bytes=None):
    return {m.name: m.values["loss"] for m in ngrams.ngram_baselines(train, held_out, vocab, token_bytes)}


def test_unigram_and_bigram_by_hand():
    """Of targets 1 1 1 2: p(1) = 3.5 / 6; after 1 came 1 twice and 2 once; after 3 nothing ever came."""
    seen = whole([[0, 1, 1, 1, 2]], 4)
    d, one, two = 0.4, 3.5 / 6, 1.5 / 6
    asked = np.array([code((None, 1, 1), 4), code((None, 1, 2), 4), code((None, 3, 2), 4)])
    unigram, bigram = ngrams.probabilities(seen, asked, [d])
    np.testing.assert_allclose(unigram, [one, two, two])
    np.testing.assert_allclose(bigram, [(2 - d) / 3 + d * 2 / 3 * one, (1 - d) / 3 + d * 2 / 3 * two, two])


def test_trigram_by_hand():
    """In 1 2 3 1 2 1 and 2 3: after (1, 2) came 3 once and 1 once; after 2 came 3 twice and 1 once.

    The targets are 2 3 1 2 1 3, so p(3) = 2.5 / 8 = 5/16, and with d2 = 1/2 p(3 | 2) = (3/2 + 5/16) / 3 = 29/48; with
    d3 = 1/4 p(3 | 1, 2) = (3/4 + 1/4 * 2 * 29/48) / 2 = 101/192. (3, 2) was never seen. A piece that begins with 2 has
    the bigram alone.
    """
    seen = whole([[1, 2, 3, 1, 2, 1], [2, 3]], 4)
    asked = np.array([code(t, 4) for t in ((1, 2, 3), (3, 2, 3), (None, 2, 3))])
    _, bigram, trigram = ngrams.probabilities(seen, asked, [0.5, 0.25])
    np.testing.assert_allclose(bigram, float(Fraction(29, 48)))
    np.testing.assert_allclose(trigram, [float(Fraction(101, 192)), 29 / 48, 29 / 48])


@pytest.mark.parametrize("dense", [0, 10**9])
@pytest.mark.parametrize("block", [7, 1 << 22])
@pytest.mark.parametrize("padded", [True, False])
def test_counting_is_counting(dense, block, padded, monkeypatch):
    monkeypatch.setattr(grams, "DENSE", dense)
    monkeypatch.setattr(grams, "BLOCK", block)
    documents = random_documents(0, 12)
    packed = rows(documents, 64, plan_single if padded else plan_packed)
    read = Padded(packed) if padded else packed
    wanted = targets(documents)
    assert target_count(read) == len(wanted)
    parts = count_grams(read, 12, 3, (0, 100, 150, len(wanted)))
    for counts, part in zip(parts, (wanted[:100], wanted[100:150], wanted[150:]), strict=True):
        found = dict(zip(counts.codes.tolist(), counts.counts.tolist(), strict=True))
        assert found == Counter(code(target, 12) for target in part)
        assert counts.total == len(part)


@pytest.mark.parametrize("padded", [True, False])
def test_documents_that_share_a_row_are_apart(padded):
    documents = random_documents(8, 12)
    packed = rows(documents, 16)
    assert len(packed) < len(cut(documents, 16))
    (counts,) = count_grams(Padded(packed) if padded else packed, 12, 3, (0, WIDE))
    wanted = Counter(code(target, 12) for target in targets(cut(documents, 16)))
    assert dict(zip(counts.codes.tolist(), counts.counts.tolist(), strict=True)) == wanted


def test_shorter_grams_are_those_counted_so():
    documents = random_documents(5, 9)
    triples, pairs = whole(documents, 9), whole(documents, 9, order=2)
    np.testing.assert_array_equal(triples.last(2).codes, pairs.codes)
    np.testing.assert_array_equal(triples.last(2).counts, pairs.counts)
    np.testing.assert_array_equal(triples.by_token(), pairs.by_token())


@pytest.mark.parametrize("plan", [plan_packed, plan_single])
def test_the_whole_is_the_formulas(plan):
    """Also with rows that cut documents off: the baseline sees and predicts what a model would."""
    width = 8
    shown = (lambda d: [x[:width] for x in d]) if plan is plan_single else (lambda d: cut(d, width))
    train, held = random_documents(1, 7), random_documents(2, 7, count=10)
    known, asked = targets(shown(train)), targets(shown(held))
    stop = len(known) - len(known) // 10
    discounts = []
    for _ in range(2):  # the bigram's, then the trigram's given it
        tried = [nats(known[:stop], known[stop:], 7, [*discounts, d])[-1] for d in ngrams.DISCOUNTS]
        discounts.append(ngrams.DISCOUNTS[int(np.argmin(tried))])
    sizes = np.arange(7)
    found = ngrams.ngram_baselines(rows(train, width, plan), rows(held, width, plan), 7, sizes)
    assert [model.name for model in found] == ["unigram", "bigram", "trigram"]
    assert [model.bar for model in found] == [False, True, False]
    for model, total in zip(found, nats(known, asked, 7, discounts), strict=True):
        assert model.values["loss"] == pytest.approx(total / len(asked))
        text = sum(sizes[target[2]] for target in asked)
        assert model.values["bits_per_byte"] == pytest.approx(total / math.log(2) / text)


def test_of_large_data_the_beginning_is_counted(monkeypatch):
    monkeypatch.setattr(ngrams, "MOST", 50)
    monkeypatch.setattr(grams, "BLOCK", 16)
    documents, held = random_documents(6, 12), targets(random_documents(7, 12, count=10))
    found = losses(rows(documents), rows(random_documents(7, 12, count=10)), 12)
    (total,) = nats(targets(documents)[:50], held, 12, [])
    assert found["unigram"] == pytest.approx(total / len(held))


def test_probabilities_sum_to_one():
    seen = whole(random_documents(3, 9), 9)
    for first, before in itertools.product([None, *range(9)], range(9)):
        asked = np.array([code((first, before, token), 9) for token in range(9)])
        for p in ngrams.probabilities(seen, asked, [0.6, 0.3]):
            assert p.sum() == pytest.approx(1)
            assert (p > 0).all()


def test_a_language_of_two_tokens_memory_costs_the_trigram_alone_nothing():
    """1 1 2 2 over and over: what follows 1 or 2 is decided by the token before it."""
    documents = [[0, *([1, 1, 2, 2] * 100), 0]] * 20
    found = losses(rows(documents, 512), rows(documents, 512), 3)
    assert found["trigram"] < 0.05
    assert found["bigram"] == pytest.approx(math.log(2), abs=0.05)


def test_no_trigram_of_a_vocabulary_whose_triples_have_no_codes(monkeypatch):
    train, held = rows(random_documents(1, 7)), rows(random_documents(2, 7))
    all_three = losses(train, held, 7)
    monkeypatch.setattr(ngrams, "CODES", 8 * 7 * 7 - 1)
    found = losses(train, held, 7)
    assert found == {name: pytest.approx(all_three[name]) for name in ("unigram", "bigram")}


def test_the_smallest_training_data():
    assert all(map(math.isfinite, losses(rows([[0, 1]]), rows([[0, 1, 0]]), 2, np.array([0, 1])).values()))
    assert ngrams.ngram_baselines(rows([[0, 1]]), Padded(rows([[0]], plan=plan_single)), 2) == ()


def test_fitting_finds_nothing_in_nothing():
    none = np.zeros(0, np.int64)
    assert ngrams.fit_discounts(whole([[0, 1, 0]], 2), Grams(none, none, 2, 3), 3) == [0.5, 0.5]


@pytest.mark.parametrize("tokenizer", [Bytes(), BPE(400)])
def test_the_objective_offers_them_for_every_split(local, tokenizer):
    source = LocalText(str(local), validation=0.2, test=0.1, per="line")
    dataset = Text(source, tokenizer, length=32).build()
    for split in ("validation", "test"):
        unigram, bigram, trigram = (m.values["bits_per_byte"] for m in NextToken().baselines(dataset, split))
        assert 0 < bigram < unigram < 8
        assert 0 < trigram < unigram  # the words are drawn at random: a word before the word tells nothing
    longer = Text(source, tokenizer, length=500).build()
    one, other = (NextToken().baselines(data, "validation") for data in (dataset, longer))
    assert [m.values for m in one[:2]] == [m.values for m in other[:2]]  # for pairs rows do not matter

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from train.data import BPE, Bytes, LocalText, Text, baseline
from train.data.packing import PackedRows, plan_packed, plan_single


def rows(documents, width=8, plan=plan_packed):
    stream = [token for document in documents for token in document]
    return PackedRows(np.array(stream, np.uint16), plan(np.cumsum([len(d) for d in documents]), width))


def pairs(documents, width=None):
    return [pair for d in documents for pair in itertools.pairwise(d[:width])]


def plain(train, held, vocab, discount):
    """(unigram, bigram) nats, from the formulas one pair at a time."""
    together, contexts, targets = Counter(train), Counter(a for a, _ in train), Counter(b for _, b in train)
    followers = Counter(a for a, _ in set(train))
    one = two = 0.0
    for a, b in held:
        p = (targets[b] + 0.5) / (len(train) + 0.5 * vocab)
        one -= math.log(p)
        if contexts[a]:
            p = max(together[a, b] - discount, 0) / contexts[a] + discount * followers[a] / contexts[a] * p
        two -= math.log(p)
    return one, two


def random_documents(seed, vocab, count=40):
    chance = np.random.default_rng(seed)
    return [
        [0, *np.minimum(chance.geometric(0.2, chance.integers(1, 30)), vocab - 1).tolist(), 0] for _ in range(count)
    ]


def test_unigram_in_closed_form():
    """Targets 1 1 1 2, vocabulary 4: p(1) = 3.5 / 6, p(2) = 1.5 / 6, p(3) = 0.5 / 6."""
    seen, _ = baseline.count_pairs(rows([[0, 1, 1, 1, 2]]), 4, 4)
    unseen, _ = baseline.count_pairs(rows([[0, 1, 2, 3]]), 4, 3)
    assert baseline.unigram_nats(seen, unseen) == pytest.approx(-math.log(3.5 / 6 * 1.5 / 6 * 0.5 / 6))


def test_bigram_in_closed_form():
    """After 1 came 1 twice and 2 once: p(1 | 1) = (2 - d) / 3 + d * 2 / 3 * p(1); after 3 nothing ever came."""
    seen, _ = baseline.count_pairs(rows([[0, 1, 1, 1, 2]]), 4, 4)
    d, one, two = 0.4, 3.5 / 6, 1.5 / 6
    for pair, p in (((1, 1), (2 - d) / 3 + d * 2 / 3 * one), ((1, 2), (1 - d) / 3 + d * 2 / 3 * two), ((3, 2), two)):
        unseen, _ = baseline.count_pairs(rows([list(pair)]), 4, 1)
        assert baseline.bigram_nats(seen, unseen, d) == pytest.approx(-math.log(p))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("block", [7, 1 << 22])
def test_counting_is_counting(dense, block, monkeypatch):
    monkeypatch.setattr(baseline, "DENSE", 1 << 24 if dense else 0)
    monkeypatch.setattr(baseline, "BLOCK", block)
    documents = random_documents(0, 12)
    wanted = pairs(documents)
    first, rest = baseline.count_pairs(rows(documents), 12, 100)
    for counts, part in ((first, wanted[:100]), (rest, wanted[100:])):
        assert dict(zip(counts.codes.tolist(), counts.counts.tolist(), strict=True)) == Counter(
            a * 12 + b for a, b in part
        )


@pytest.mark.parametrize("plan", [plan_packed, plan_single])
def test_the_whole_is_the_formulas(plan):
    """Also with rows that cut documents off: the baseline sees and predicts what a model would."""
    train, held = random_documents(1, 12), random_documents(2, 12, count=10)
    width = 8 if plan is plan_single else None
    sizes = np.array([0, *range(1, 12)])
    result = baseline.baselines(rows(train, 8, plan), rows(held, 8, plan), sizes)
    one, two = plain(pairs(train, width), pairs(held, width), 12, result.discount)
    bits = math.log(2) * sum(sizes[b] for _, b in pairs(held, width))
    assert result.unigram == pytest.approx(one / bits)
    assert result.bigram == pytest.approx(two / bits)
    known = pairs(train, width)
    cut = len(known) - len(known) // 10
    losses = [plain(known[:cut], known[cut:], 12, d)[1] for d in baseline.DISCOUNTS]
    assert result.discount == pytest.approx(baseline.DISCOUNTS[int(np.argmin(losses))])


def test_of_large_data_the_beginning_is_counted(monkeypatch):
    monkeypatch.setattr(baseline, "MOST", 50)
    monkeypatch.setattr(baseline, "BLOCK", 16)
    documents = random_documents(6, 12)
    first, rest = baseline.count_pairs(rows(documents), 12, 40, 50)
    assert (first.counts.sum(), rest.counts.sum()) == (40, 10)
    held = random_documents(7, 12, count=10)
    result = baseline.baselines(rows(documents), rows(held), np.ones(12))
    one, _ = plain(pairs(documents)[:50], pairs(held), 12, result.discount)
    assert result.unigram == pytest.approx(one / (math.log(2) * len(pairs(held))))


def test_probabilities_sum_to_one():
    seen, _ = baseline.count_pairs(rows(random_documents(3, 9)), 9, 10**9)
    for context in range(9):
        total = 0.0
        for target in range(9):
            one = baseline.Counts(np.array([context * 9 + target]), np.array([1]), 9)
            total += math.exp(-baseline.bigram_nats(seen, one, 0.6))
        assert total == pytest.approx(1)


def test_a_deterministic_language_costs_the_bigram_nearly_nothing():
    documents = [[0, *([1, 2, 3] * 100), 0]] * 20
    result = baseline.baselines(rows(documents), rows(documents), np.array([0, 1, 1, 1]))
    assert result.bigram < 0.03
    assert result.unigram == pytest.approx(math.log2(3), abs=0.05)


def test_the_smallest_training_data():
    result = baseline.baselines(rows([[0, 1]]), rows([[0, 1, 0]]), np.array([0, 1]))
    assert math.isfinite(result.bigram)
    assert math.isfinite(result.unigram)


@pytest.mark.parametrize("tokenizer", [Bytes(), BPE(400)])
def test_the_dataset_offers_it(local, tokenizer):
    dataset = Text(LocalText(str(local), validation=0.2, per="line"), tokenizer, length=32).build()
    assert 0 < dataset.bigram_bits_per_byte() < dataset.unigram_bits_per_byte() < 8
    longer = Text(LocalText(str(local), validation=0.2, per="line"), tokenizer, length=500).build()
    assert longer.bigram_bits_per_byte() == dataset.bigram_bits_per_byte()  # rows do not matter

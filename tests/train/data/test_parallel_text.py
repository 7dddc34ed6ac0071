import builtins
import itertools

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train.data.conftest import sentences
from train.data import Bytes
from train.data.local_pairs import LocalPairs
from train.data.ngrams import ngram_baselines
from train.data.packing import PackedRows, plan_single
from train.data.pair_rows import OnePair, PackedPairs
from train.data.parallel import Sides, Swapped
from train.data.parallel_text import ParallelText
from train.data.wordpieces import WordPieces
from train.objectives.sequence_to_sequence import SequenceToSequence

ENGLISH = sentences(150, seed=3, low=1, high=12)
GERMAN = [text.replace("river", "fluß") + " !" * (i % 7) for i, text in enumerate(sentences(150, 4, 1, 12))]


@pytest.fixture
def pairs(tmp_path):
    lines = zip(ENGLISH, GERMAN, strict=True)
    (tmp_path / "x.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in lines), "utf-8")
    return LocalPairs(str(tmp_path / "x.tsv"), validation=0.1, test=0.1)


def texts(dataset, batch, row):
    """The pairs of a row as text, by document; what begins and ends them is checked here."""
    found = []
    source, target = dataset.source_tokenizer, dataset.tokenizer
    for document in range(1, batch["segments"][row].max() + 1):
        one = batch["source"][row][batch["source_segments"][row] == document]
        other = batch["tokens"][row][batch["segments"][row] == document]
        assert (one[-1], other[0], other[-1]) == (source.eos, target.bos, target.eos)
        found.append((source.decode(one), target.decode(other)))
    return found


@pytest.mark.parametrize("layout", [OnePair(), PackedPairs(), PackedPairs(open=2)])
def test_every_pair_stands_once_with_the_same_document_on_both_sides(pairs, layout):
    data = ParallelText(pairs, WordPieces(500), source_length=90, length=80, layout=layout)
    dataset = data.build()
    for split in pairs.splits:
        batch = dataset.rows[split].gather(np.arange(len(dataset.rows[split])))
        found = [pair for row in range(len(batch["tokens"])) for pair in texts(dataset, batch, row)]
        assert sorted(found) == sorted(pairs.build().pairs(split))
        assert not batch["tokens"][batch["segments"] == 0].any()
        assert not batch["source"][batch["source_segments"] == 0].any()
        if layout != OnePair():
            for prefix in ("source_", ""):
                segments, positions = batch[f"{prefix}segments"], batch[f"{prefix}positions"]
                for row, number in itertools.product(range(len(segments)), range(1, segments.max() + 1)):
                    own = positions[row][segments[row] == number]
                    np.testing.assert_array_equal(own, np.arange(len(own)))
    stats = dataset.stats["train"]
    assert (stats.rows == stats.pairs) == (layout == OnePair())
    np.testing.assert_allclose(
        stats.efficiency, (dataset.rows["train"].gather(np.arange(stats.rows))["segments"] > 0).mean()
    )


def test_packing_keeps_within_both_widths_and_takes_the_fullest_row():
    rng = np.random.default_rng(0)
    sizes, widths = rng.integers(1, 30, (2, 400)), (50, 64)
    for rows in (1, 3, 64):
        row = PackedPairs(rows).assign(*sizes, widths)
        assert sorted(set(row.tolist())) == list(range(row.max() + 1))
        for side, width in zip(sizes, widths, strict=True):
            assert np.bincount(row, side).max() <= width
    assert (sizes.sum(1) / widths).max() > 0.95 * row.max()
    # The third goes to the fuller of two rows; the fifth fits into neither, and the fuller one is closed for it.
    source, target = np.array([4, 7, 3, 5, 9, 1, 1]), np.array([4, 6, 3, 1, 9, 1, 1])
    assert PackedPairs(2).assign(source, target, (10, 10)).tolist() == [0, 1, 1, 0, 2, 2, 0]


def test_pairs_that_are_too_long(pairs, caplog):
    """Counted in one line; left out, or cut off without what ends them."""
    small = {"tokenizer": Bytes(), "source_length": 40, "length": 30}
    every = {split: list(pairs.build().pairs(split)) for split in pairs.splits}
    fits = {split: [len(a.encode()) < 40 and len(b.encode()) < 30 for a, b in own] for split, own in every.items()}
    dropped = ParallelText(pairs, **small).build()
    (line,) = caplog.messages
    assert line == "pairs longer than source_length=40 or length=30 tokens were left out: " + ", ".join(
        f"{len(own) - sum(own)} of {len(own)} in {split}" for split, own in fits.items()
    )
    for split, own in fits.items():
        batch = dropped.rows[split].gather(np.arange(len(dropped.rows[split])))
        found = [pair for row in range(len(batch["tokens"])) for pair in texts(dropped, batch, row)]
        assert found == list(itertools.compress(every[split], own))
    cut = ParallelText(pairs, **small, overlong="truncate").build()
    assert "were cut off" in caplog.messages[-1]
    assert len(cut.rows["train"]) == len(every["train"])
    batch = cut.rows["train"].gather(np.arange(len(every["train"])))
    for row, (source, target) in enumerate(every["train"]):
        wanted = [*source.encode(), 0][:40], [0, *target.encode(), 0][:31]
        sides = [batch[name][row][batch[f"{prefix}segments"][row] > 0].tolist()
                 for name, prefix in (("source", "source_"), ("tokens", ""))]  # fmt: skip
        assert sides == list(wanted)
    with pytest.raises(
        UserError, match=r"split 'train': each of \d+ pairs is longer than source_length=4 or length=64"
    ):
        ParallelText(pairs, Bytes(), source_length=4).build()


def test_one_inventory_or_two(pairs):
    shared = ParallelText(pairs, WordPieces(500)).build()
    assert shared.source_tokenizer is shared.tokenizer
    assert shared.tokenizer.fingerprint == WordPieces(500).build(Sides(pairs)).fingerprint
    data = ParallelText(pairs, WordPieces(400), Bytes(), source_length=120)
    own = data.build()
    assert own.tokenizer.fingerprint == WordPieces(400).build(Sides(pairs, "target")).fingerprint
    assert (
        (data.describe().vocab, data.describe().source_vocab) == (own.vocab, own.description.source_vocab) == (400, 256)
    )
    learnt = ParallelText(pairs, WordPieces(400), WordPieces(420)).build()
    assert learnt.source_tokenizer.fingerprint == WordPieces(420).build(Sides(pairs, "source")).fingerprint
    assert len({one.fingerprint for one in (shared, own, learnt)}) == 3


def test_the_other_direction(pairs):
    forth = ParallelText(pairs, Bytes(), source_length=160, length=160).build()
    back = ParallelText(Swapped(pairs), Bytes(), source_length=160, length=160).build()
    one, other = (found.rows["test"].gather(np.arange(len(found.rows["test"]))) for found in (forth, back))
    np.testing.assert_array_equal(one["source"], other["tokens"][:, 1:])
    np.testing.assert_array_equal(one["tokens"][:, 1:], other["source"])
    assert forth.fingerprint != back.fingerprint


def test_the_fingerprint_is_of_all_that_makes_the_rows(pairs, monkeypatch):
    base = {"tokenizer": Bytes(), "source_length": 160, "length": 160}
    others = [{}, {"source_length": 159}, {"length": 159}, {"overlong": "truncate"}, {"layout": PackedPairs()}]
    found = [ParallelText(pairs, **base | other).build().fingerprint for other in others]
    assert len(set(found)) == len(found)
    monkeypatch.setattr("train.data.stream.write", None)  # all of it is in the cache
    assert ParallelText(pairs, **base).build().fingerprint == found[0]


@pytest.mark.parametrize("layout", [OnePair(), PackedPairs()])
def test_baselines_are_those_of_the_targets_as_documents(pairs, layout):
    """The n-grams of the targets alone, whatever the rows look like."""
    dataset = ParallelText(pairs, WordPieces(400), source_length=160, length=160, layout=layout).build()
    found = SequenceToSequence().baselines(dataset, "validation")
    rows = {}
    for split in ("train", "validation"):
        batch = dataset.rows[split].gather(np.arange(len(dataset.rows[split])))
        documents = [batch["tokens"][row][batch["segments"][row] == number]
                     for row, number in itertools.product(range(len(batch["tokens"])), range(1, 20))]  # fmt: skip
        documents = [document for document in documents if len(document)]
        ends = np.cumsum([len(document) for document in documents])
        rows[split] = PackedRows(np.concatenate(documents), plan_single(ends, 161))
    wanted = ngram_baselines(rows["train"], rows["validation"], 400, dataset.token_bytes)
    assert [one.name for one in found][:3] == ["unigram", "bigram", "trigram"]
    for one, other in zip(found, wanted, strict=False):
        assert one.values == pytest.approx(other.values)
    assert [one.name for one in found if one.bar] == [found[-1].name]


@pytest.mark.parametrize("layout", [OnePair(), PackedPairs()])
def test_data_is_what_it_says(pairs, layout):
    """Nothing is opened to describe it; what is told is true of every split, and building tells only more."""
    data = ParallelText(pairs, WordPieces(400), Bytes(), source_length=130, length=140, layout=layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", None)
        patch.setattr("train.data.cache.entry", None)
        before = data.describe()
    dataset = data.build()
    after = dataset.description
    assert before.splits == after.splits == tuple(dataset.rows)
    assert (before.arrays, before.vocab, before.source_vocab) == (after.arrays, after.vocab, after.source_vocab)
    assert (before.token_bytes, len(after.token_bytes), before.text) == (None, 400, False)
    batches = [next(dataset.train(4, seed=0)), *(next(iter(dataset.evaluation(s, 4))) for s in after.evaluated)]
    for batch in batches:
        assert {name: (a.shape, a.dtype.type) for name, a in batch.items()} == before.batch(4)
        assert batch["tokens"].max() < 400
        assert batch["source"].max() < 256


def test_fields_that_are_not_defined():
    with pytest.raises(SpecError, match="must be one of drop, truncate"):
        ParallelText(overlong="cut")
    with pytest.raises(SpecError, match="must be at least 1"):
        ParallelText(length=0)
    with pytest.raises(SpecError, match="must be at least 1"):
        PackedPairs(0)

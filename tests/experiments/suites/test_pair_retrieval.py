"""Texts found among the renderings of their neighbours: by hand, by shared words, and of a model."""

import dataclasses
import math

import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from arch.models.embedder import Embedder
from arch.spec import UserError
from experiments.suites import pair_retrieval
from experiments.suites.base import Asked
from experiments.suites.catalogue import SUITES, named
from experiments.suites.mteb import TextEncoder
from experiments.suites.pair_retrieval import PairRetrieval, nearest
from tests.experiments.suites.letters import opened
from tests.train import toys
from train.data.corpus import Corpus
from train.data.pairs import SameDocument
from train.data.parallel import ParallelCorpus, ParallelSource
from train.objectives.contrastive import Contrastive

PAIRS = [
    ("abc d", "abc e", "1"), ("f z", "f g q", "2"), ("f g", "f h", "1"), ("i j", "x y", "1"), ("k l", "k l", "2"),
    ("m", "m", "3"),
]  # fmt: skip
ORDER = (0, 2, 3, 1, 4)
"""Document by document; the sixth is one too many."""


@dataclasses.dataclass(frozen=True)
class Given(ParallelSource):
    splits = ("train", "validation")

    def identity(self):
        return "given"

    def build(self, progress=None):
        names = ("source", "target", "document")
        records = [{name: text.encode() for name, text in zip(names, pair, strict=True)} for pair in PAIRS]
        return ParallelCorpus(Corpus("given", {"validation": records}, dict.fromkeys(names, "text")))


SCORE = PairRetrieval(rows=5, pairs=Given())


def test_texts_of_the_same_document_alone_are_rivals():
    """Row 0 is right, row 1 is misled by another of its own, row 2 by one of another document, row 3 by a tie; the last
    is alone in its document and is not asked."""
    similarity = np.array([
        [0.9, 0.1, 0.2, 0.0, 0.0],
        [0.8, 0.7, 0.0, 0.0, 0.0],
        [0.9, 0.3, 0.5, 0.1, 0.0],
        [0.0, 0.0, 0.6, 0.6, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.5],
    ])  # fmt: skip
    assert nearest(similarity, ["a", "a", "b", "b", "c"]) == 0.5
    assert nearest(similarity, ["a"] * 5) == 2 / 5
    assert nearest(np.eye(3), ["a", "b", "c"]) is None
    assert SCORE.scored(np.eye(3), np.eye(3), ["a", "b", "c"]) == {"pair_ndcg10_score": 1.0}


def test_shared_words_are_the_baseline():
    """ "i j" shares no word with its own. "f g" is nearer to "f g q" of the other document than to "f h"; "f z" is the
    nearer to "f h", of the other document too."""
    (found,) = SCORE.baselines(None, "validation")
    assert found.name == "shared words"
    assert found.values["neighbour_accuracy"] == pytest.approx(4 / 5)
    # Ranks: 1; 2; 5, tied with all; 2; 1.
    gains = [1, 1 / math.log2(3), 1 / math.log2(6), 1 / math.log2(3), 1]
    assert found.values["pair_ndcg10_score"] == pytest.approx(np.mean(gains))


def test_of_a_model_it_is_the_cosine_of_its_vectors(monkeypatch):
    model = opened(Decoder(toys.VOCAB, 16, 1, PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=24))))
    one, other = (TextEncoder(model).encode([PAIRS[at][side] for at in ORDER]) for side in (0, 1))
    cosine = [[a @ b / np.sqrt(a @ a * (b @ b)) for b in other] for a in one]
    others = ((1, 2), (0, 2), (0, 1), (4,), (3,))
    right = [all(row[i] > row[j] for j in rivals) for i, (row, rivals) in enumerate(zip(cosine, others, strict=True))]
    ranks = [1 + sum(x >= row[i] for j, x in enumerate(row) if j != i) for i, row in enumerate(cosine)]
    assert len(set(ranks)) > 1
    wanted = {"pair_ndcg10_score": np.mean([1 / math.log2(1 + rank) for rank in ranks]),
              "neighbour_accuracy": np.mean(right)}  # fmt: skip
    assert SCORE.measure(Asked(model, "validation", 4)) == pytest.approx(wanted)
    monkeypatch.setattr(pair_retrieval.TextEncoder, "encode", lambda self, texts: np.eye(5)[: len(texts)])
    assert SCORE.measure(Asked(model, "validation", 4)) == {"pair_ndcg10_score": 1.0, "neighbour_accuracy": 1.0}


def test_what_has_no_text_or_no_split_is_refused(monkeypatch):
    assert any(isinstance(one, PairRetrieval) for one in SUITES["retrieval"])
    assert "is no text" in SCORE.refusal(toys.run())
    with pytest.raises(UserError, match="Given has no split 'test', which is scored"):
        SCORE.texts("test")
    untold = Corpus("untold", {"validation": []}, {"source": 0})
    monkeypatch.setattr(Given, "build", lambda self: ParallelCorpus(untold))
    with pytest.raises(UserError, match="Given does not say which document a pair is from"):
        SCORE.texts("validation")


def test_an_embedder_has_a_suite_of_its_own():
    """It has one vector a text, and no states of tokens."""
    data = SameDocument(length=32)
    run = toys.run(model=Embedder(256, 16, 1), data=data, objective=Contrastive())
    assert named("embedding", run) == SUITES["embedding"]
    with pytest.raises(UserError, match="suite=retrieval: Retrieval scores models that are Causal or Bidirectional"):
        named("retrieval", run)

"""Scores against what is known without a model: tables, closed forms, and the model called token by token."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.spec import UserError
from experiments.suites.base import Asked, score
from experiments.suites.catalogue import SUITES, named
from experiments.suites.likelihood import Choice, Cloze, NextToken, log_probabilities, places
from experiments.suites.retrieval import Retrieval, ndcg
from experiments.suites.translation import Translation
from tests.train import toys
from train.data.reversal import Reversed
from train.loop import train
from train.objectives.concatenated import Concatenated
from train.objectives.masked_lm import MaskedLM, MaskedNextToken
from train.objectives.next_token import NextToken as Predicts
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.run import Logging
from train.setup import prepare
from train.trained import TrainedRun

V = toys.VOCAB
BLOCK = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=24))
SEEING = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=24))
RUNS = {
    "decoder": toys.run(model=Decoder(V, 16, 1, BLOCK), data=toys.Toy(held_out=40)),
    "encoder": toys.run(model=Encoder(V + 1, 16, 1, SEEING), data=toys.Toy(held_out=40), objective=MaskedLM()),
}


def opened(run):
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    return TrainedRun(program, jax.tree.map(lambda x: x * 8.0 if x.ndim > 1 else x, program.start()), dataset, 0)


@pytest.fixture(scope="module")
def models():
    return {name: opened(run) for name, run in RUNS.items()}


def rows_of(asked):
    return {name: array[:4, :6] for name, array in asked.rows.items() if array.ndim == 2}


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_what_each_family_is_shown(models):
    """The log-probability of a token, each by a call of its own on what it may see and nothing else."""
    which = np.array([[0, 1], [0, 5], [2, 3], [3, 4]])
    asked = Asked(models["decoder"], "validation", 4, batch=2)
    rows = rows_of(asked)
    found, _ = log_probabilities(asked, rows, which, "left")
    for value, (row, place) in zip(found, which, strict=True):
        before = slice(row, row + 1), slice(0, place)
        out = models["decoder"].model(Inputs(rows["tokens"][before], None, rows["segments"][before]))
        assert value == pytest.approx(log_softmax(out.logits[0, -1])[rows["tokens"][row, place]], abs=1e-4)


@pytest.mark.parametrize(("objective", "before"), [(MaskedLM(), 0), (MaskedNextToken(), 1)])
@pytest.mark.parametrize("sees", ["left", "both"])
def test_an_encoder_is_read_where_it_was_trained_to_tell(models, objective, before, sees):
    """At the mask, or at the place before it."""
    which = np.array([[0, 1], [0, 5], [2, 3], [3, 4]])
    program = models["encoder"].program
    program = dataclasses.replace(program, run=dataclasses.replace(program.run, objective=objective))
    asked = Asked(dataclasses.replace(models["encoder"], program=program), "validation", 4, batch=3)
    rows = rows_of(asked)
    found, _ = log_probabilities(asked, rows, which, sees)
    for value, (row, place) in zip(found, which, strict=True):
        tokens = rows["tokens"][row : row + 1].copy()
        tokens[0, place] = V  # the mask that the objective has added
        seen = tokens[:, : place + 1] if sees == "left" else tokens
        documents = rows["segments"][row : row + 1, : seen.shape[1]]
        out = models["encoder"].model(Inputs(seen, None, documents))
        assert value == pytest.approx(log_softmax(out.logits[0, place - before])[rows["tokens"][row, place]], abs=1e-4)


def test_the_same_places_for_all_and_only_what_follows_something():
    segments = np.array([[1, 1, 1, 2, 2, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    which = places({"segments": segments}, 2, seed=0)
    assert {tuple(one) for one in which} <= {(0, 1), (0, 2), (0, 4), *((2, place) for place in range(1, 6))}
    assert (np.bincount(which[:, 0], minlength=3) == [2, 0, 2]).all()
    np.testing.assert_array_equal(which, places({"segments": segments}, 2, seed=0))


def test_all_scores_of_both_families(models):
    for name, model in models.items():
        found = score((NextToken(rows=8), Cloze(rows=8), Choice(rows=40), Retrieval(rows=40)), model, "validation")
        assert set(found) == {
            *("next_token_loss", "next_token_accuracy", "cloze_loss", "cloze_accuracy"),
            *("choice_accuracy", "retrieval_ndcg10_score"),
        }
        if name == "decoder":
            assert found["cloze_loss"] == found["next_token_loss"], "a decoder sees the left side, whatever it is asked"
        else:
            assert found["cloze_loss"] != found["next_token_loss"]


def test_a_trained_decoder_tells_continuations_apart(tmp_path):
    """Rows count up: behind a beginning there is one that goes on."""
    run = dataclasses.replace(RUNS["decoder"], steps=60, logging=Logging(log=60, evaluate=0, checkpoint=0))
    done = train(run, tmp_path / "run")
    trained = TrainedRun(done.program, done.state, done.dataset, run.steps)
    found = score((Choice(rows=40), NextToken(rows=16)), trained, "validation")
    assert found["choice_accuracy"] > 0.6  # chance is 0.25
    assert found["next_token_accuracy"] > 0.5


def test_ndcg_by_hand():
    assert ndcg(np.eye(3)) == 1.0
    similarity = np.array([[0.5, 0.9, 0.1], [0.2, 0.7, 0.1], [0.9, 0.8, 0.1]])  # ranks 2, 1, 3
    assert ndcg(similarity) == pytest.approx((1 / math.log2(3) + 1 + 1 / math.log2(4)) / 3)
    assert ndcg(np.ones((3, 3))) == pytest.approx(1 / math.log2(4)), "ties count against the relevant one"
    far = np.zeros((12, 12)) - np.eye(12)
    assert ndcg(far) == 0.0


def test_what_cannot_be_scored_is_said_before_anything_is(models):
    with pytest.raises(UserError, match=r"suite=translation: Translation needs rows of one pair each"):
        named("translation", RUNS["decoder"])
    with pytest.raises(
        UserError,
        match="nothing: must be one of language, translation, fine_tuned, fine_tuned_pairs, retrieval, embedding, "
        "recovery, or ",
    ):
        named("nothing", RUNS["decoder"])
    assert named("language", RUNS["encoder"]) == SUITES["language"]
    assert named("experiments.suites.catalogue:LANGUAGE", RUNS["encoder"]) == SUITES["language"]
    run = dataclasses.replace(RUNS["encoder"], objective=Predicts())
    program = dataclasses.replace(models["encoder"].program, run=run)
    maskless = dataclasses.replace(models["encoder"], program=program)
    with pytest.raises(UserError, match="hides no tokens"):
        score((Cloze(rows=2),), maskless, "validation")
    pair = EncoderDecoder(encoder=Trunk(V, 16, 1, SEEING), decoder=Trunk(V, 16, 1, reading(BLOCK)))
    pairs = toys.run(model=pair, data=Reversed(length=8, vocab=V), objective=SequenceToSequence())
    assert "reads a source" in Retrieval().refusal(pairs)
    assert not Translation().refusal(pairs)
    with pytest.raises(UserError, match="Reversed has no tokenizer to write them by"):
        score((Translation(rows=2),), opened(pairs), "validation")
    alone = toys.run(model=Decoder(V, 16, 1, BLOCK), data=pairs.data, objective=Concatenated())
    with pytest.raises(UserError, match=r"suite=language: NextToken gives .* rows .* Decoder reads no source"):
        named("language", alone)
    assert "Choice gives" in Choice().refusal(alone)
    assert not NextToken().refusal(pairs)


def test_scores_of_whole_rows_want_some(models):
    """Toy rows end in padding; few of the first are full."""
    rows = models["decoder"].dataset.rows["validation"].gather(np.arange(13))
    full = int((rows["segments"] > 0)[:, :-1].all(axis=1).sum())
    assert full > 1
    with pytest.raises(UserError, match=f"its {full + 1} candidates .* which {full} of the first 13 of validation are"):
        score((Choice(rows=13, of=full + 1),), models["decoder"], "validation")
    assert score((Choice(rows=13, of=full),), models["decoder"], "validation")
    first = int((rows["segments"] > 0)[:, :-1].all(axis=1).argmax())
    with pytest.raises(UserError, match=f"Retrieval halves rows .* which 1 of the first {first + 1}"):
        score((Retrieval(rows=first + 1),), models["decoder"], "validation")

"""What a model cannot do is told in one line before anything runs, and what it costs whatever it reads."""

import dataclasses
import re

import pytest

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.positions import Learned
from arch.models.classifier import Classifier, Matcher
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.mlp import DeepMLP
from arch.spec import SpecError, UserError
from experiments import commands as verbs
from experiments.config.flags import Command
from train.data.digits import Digits
from train.data.listops import ListOps
from train.data.pairs import SameDocument
from train.data.text import Text
from train.objectives.classification import Classification
from train.objectives.next_token import NextToken
from train.run import Logging, Run

T = 8
TINY = {"width": 8, "depth": 1, "block": PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=None)}
PAIRS = Run(
    model=Matcher(vocab=256, classes=2, position=Learned(T), **TINY),
    data=SameDocument(length=T),
    objective=Classification(),
    batch=4,
)
IMAGES = Run(model=DeepMLP(hidden=4, depth=2), data=Digits(), objective=Classification(), batch=4)
ROWS = Run(
    model=Classifier(vocab=32, classes=10, position=Learned(T), **TINY),
    data=ListOps(length=T),
    objective=Classification(),
    batch=4,
)


@pytest.mark.parametrize("run", [IMAGES, PAIRS, ROWS], ids=["images", "pairs", "rows"])
def test_costs_of_any_run_are_counted_in_what_its_objective_counts(run):
    told = verbs._costs(run)
    assert re.search(r"rows +4 a step, 4,000 in all", told)
    assert "a row forward" in told


def test_the_flops_of_images_are_those_of_the_perceptron():
    """64 x 4 and 4 x 4 of the hidden layers, 4 x 10 of the head; two a multiply-add."""
    assert f"FLOPs        {2 * (64 * 4 + 4 * 4 + 4 * 10):,} a row forward" in verbs._costs(IMAGES)


def masked(**fields):
    return dataclasses.replace(
        Run(model=Encoder(vocab=32, width=8, depth=1, block=TINY["block"]), data=ListOps(length=T), batch=4), **fields
    )


def test_a_model_of_whole_rows_generates_nothing():
    command = Command("generate", masked(), masked(), "mine.py", {})
    with pytest.raises(UserError, match=r"generate needs a causal model, .*; Encoder is none"):
        verbs.generate(command, "nowhere", ["the"])


def test_an_objective_demands_its_kind_of_model():
    (error, *_) = masked(objective=NextToken()).conflicts()
    assert "must be Causal" in str(error)
    (error, *_) = dataclasses.replace(ROWS, objective=NextToken()).conflicts()
    assert "must be Causal" in str(error)


def test_a_prompt_needs_a_causal_model():
    run = masked(model=dataclasses.replace(masked().model, vocab=256), data=Text(), logging=Logging(prompt="the"))
    told = [str(error) for error in run.conflicts()]
    assert any("Encoder is not causal, continues nothing; leave it out" in line for line in told)


def test_a_decoder_that_sees_later_tokens_is_an_encoder():
    with pytest.raises(SpecError, match=r"must not see later tokens.*Encoder"):
        Decoder(vocab=32, **TINY)

"""What a run is refused for before its data are built."""

import dataclasses
import math
import re

import jax
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.normed_positions import NormedLearned
from arch.layers.positions import Learned
from arch.models.classifier import Classifier
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.spec import SpecError
from tests.train import toys
from train.data import BPE, ByClass, Bytes, Digits, Ordered, Text
from train.data.listops import ListOps
from train.data.local_pairs import LocalPairs
from train.data.parallel_text import ParallelText
from train.loop import train
from train.objectives.classification import Classification
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.optim import AdamW
from train.run import Logging
from train.sharding.mesh import Mesh

LISTS = ListOps(length=16, shortest=4, train=8, validation=8, test=0)


def classifier(**fields):
    return toys.run(
        model=Classifier(**{"vocab": 16, "width": 16, "depth": 1, "classes": 10, "position": Learned(16), **fields}),
        data=LISTS,
        objective=Classification(),
    )


TRUNK = {"vocab": 256, "width": 16, "depth": 1}
PAIR = EncoderDecoder(
    encoder=Trunk(**TRUNK, position=Learned(5), block=PreNorm(mixer=Attention(mask=Bidirectional()))),
    decoder=Trunk(**TRUNK, position=Learned(9), block=reading(PreNorm())),
)
PAIRS = ParallelText(LocalPairs("x.tsv"), tokenizer=Bytes(), source_length=6, length=9)
REFUSED = {
    "a prompt for numbers": (
        toys.run(logging=Logging(prompt="Once")),
        r"Logging\.prompt='Once': Toy is no running text that a prompt can be continued in",
    ),
    "a prompt for images": (
        dataclasses.replace(classifier(), data=Digits(), logging=Logging(prompt="Once")),
        r"Logging\.prompt='Once': Digits is no running text",
    ),
    "too few tokens": (toys.run(data=Text()), r"Decoder\.vocab=32: must be at least 256, the tokens of the data"),
    "too few tokens of a BPE": (
        toys.run(data=Text(tokenizer=BPE(300)), model=toys.model(vocab=299)),
        r"Decoder\.vocab=299: must be at least 300",
    ),
    "too few classes": (classifier(classes=9), r"Classifier\.classes=9: must be at least 10, the classes of the data"),
    "rows longer than the positions": (
        toys.run(model=toys.model(position=Learned(7))),
        r"Decoder\.position\.length=7: must be at least 16, the tokens of a row, or rows be shorter",
    ),
    "documents longer than the positions": (
        classifier(position=NormedLearned(15)),
        r"Classifier\.position\.length=15: must be at least 16, the tokens of a row",
    ),
    "a source longer than the positions": (
        toys.run(model=PAIR, data=PAIRS, objective=SequenceToSequence()),
        r"EncoderDecoder\.encoder\.position\.length=5: must be at least 6, the source tokens of a row",
    ),
    "an order by what is not there": (
        toys.run(data=Ordered(toys.Toy(), ByClass())),
        r"Ordered\.order=ByClass\(together=1\): reads label of the rows; they have tokens, segments, positions",
    ),
}


@pytest.mark.parametrize(("run", "line"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_the_data_is_refused_before_they_are_built(run, line, tmp_path, monkeypatch):
    (conflict,) = run.conflicts()
    assert re.match(line, str(conflict))
    assert "\n" not in str(conflict)
    monkeypatch.setattr(type(run.data), "build", lambda *a, **k: pytest.fail("the data were built"))
    with pytest.raises(SpecError, match=line):
        train(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Logging(prompt="a\udcff"), r"Logging\.prompt='a\\udcff': must be text in UTF-8; it has byte 0xff at "),
        (lambda: toys.run(seed=2**32), "Run.seed=4294967296: must be at most 4294967295: random keys are made of 32"),
        (lambda: toys.run(seed=10**400), "must be finite and at least 0"),
        (lambda: AdamW(learning_rate=math.inf), "AdamW.learning_rate=inf: must be finite and at least 0$"),
        (lambda: AdamW(learning_rate=math.nan), "AdamW.learning_rate=nan: must be finite and at least 0$"),
        (lambda: AdamW(learning_rate=-1.0), r"AdamW.learning_rate=-1\.0: must be at least 0$"),
        (lambda: AdamW(eps=math.inf), r"AdamW\.eps=inf: must be finite and "),
    ],
)
def test_values_that_no_run_has(make, line):
    with pytest.raises(SpecError, match=line):
        make()


@pytest.mark.parametrize(("length", "batch"), [(10**9, 8), (2 * 10**9, 1)])
def test_rows_that_would_end_xla_without_a_word(length, batch):
    conflict, *_ = toys.run(data=Text(length=length), model=toys.model(vocab=256), batch=batch).conflicts()
    assert re.match(r"Run\.batch=\d+: rows of \w+ are [\d,]+ numbers; at most", str(conflict).splitlines()[0])


def test_what_fits_is_not_refused():
    for run in (toys.run(), classifier(), toys.run(data=Text(), model=toys.model(vocab=256),
                                                  logging=Logging(prompt="Once")),
                toys.run(model=toys.model(position=Learned(16)), seed=2**32 - 1),
                classifier(position=NormedLearned(16))):  # fmt: skip
        assert list(run.conflicts()) == []


def test_replicas_do_not_go_over_processes(monkeypatch):
    """Each process holds rows of its own, which all replicas are to read."""
    run = toys.run(mesh=Mesh(replica=2))
    assert list(run.conflicts(4)) == []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    (conflict, *_) = run.conflicts(4)
    assert "replica=2: must be 1 with 2 processes" in str(conflict)

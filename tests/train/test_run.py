"""What a run is refused for before its data are built."""

import dataclasses
import re

import pytest

from arch.layers.positions import Learned
from arch.models.classifier import Classifier
from arch.spec import SpecError
from tests.train import toys
from train.data import BPE, ByClass, Digits, Ordered, Text
from train.data.listops import ListOps
from train.loop import train
from train.objectives.classification import Classification
from train.run import Reports

LISTS = ListOps(length=16, shortest=4, train=8, validation=8, test=0)


def classifier(**fields):
    return toys.run(
        model=Classifier(**{"vocab": 16, "width": 16, "depth": 1, "classes": 10, "position": Learned(16), **fields}),
        data=LISTS,
        objective=Classification(),
    )


REFUSED = {
    "a prompt for numbers": (
        toys.run(reports=Reports(prompt="Once")),
        r"Reports\.prompt='Once': Toy is no running text that a prompt can be continued in",
    ),
    "a prompt for images": (
        dataclasses.replace(classifier(), data=Digits(), reports=Reports(prompt="Once")),
        r"Reports\.prompt='Once': Digits is no running text",
    ),
    "too few tokens": (toys.run(data=Text()), r"Decoder\.vocab=32: must be at least 256, the tokens of the data"),
    "too few tokens of a BPE": (
        toys.run(data=Text(tokenizer=BPE(300)), model=toys.model(vocab=299)),
        r"Decoder\.vocab=299: must be at least 300",
    ),
    "too few classes": (classifier(classes=9), r"Classifier\.classes=9: must be at least 10, the classes of the data"),
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


def test_what_fits_is_not_refused():
    for run in (toys.run(), classifier(), toys.run(data=Text(), model=toys.model(vocab=256),
                                                  reports=Reports(prompt="Once"))):  # fmt: skip
        assert list(run.conflicts()) == []

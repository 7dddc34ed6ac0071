"""No field of a part is lost on the way out: each is read while generated code is planned, or shapes training alone."""

import collections
import dataclasses

import pytest

from arch.hf.family import Facts
from arch.hf.generated.tier import Generated
from arch.spec import Spec, walk
from tests.arch.hf.generated_cases import CASES, drawn, joined_trees

TRAINING = {
    "*": {"init", "loop", "remat", "dropout"},
    "Normal": {"std"},
    "Uniform": {"limit"},
    "Codebook": {"std", "weight"},
    "LearnedCodes": {"std", "beta"},
    "SimVQ": {"std", "beta"},
    "VectorQuantized": {"std", "beta", "decay", "revive"},
    "LookupFree": {"beta", "gamma", "group", "temperature"},
}
"""Fields that no logit of a trained model depends on: how it started, how it is computed, and its losses."""


def test_every_field_of_a_part_is_read_or_is_of_training(monkeypatch):
    trees = {}
    for name, spec in CASES.items():
        _, params, buffers = drawn(spec)
        trees[name] = joined_trees(params, buffers) if buffers else params
    parts = {type(node) for spec in CASES.values() for _, node in walk(spec) if isinstance(node, Spec)}
    read = collections.defaultdict(set)

    def noting(self, name):
        read[type(self)].add(name)
        return object.__getattribute__(self, name)

    with monkeypatch.context() as patch:
        for part in parts:
            patch.setattr(part, "__getattribute__", noting)
        for name, spec in CASES.items():
            Generated().plan(spec, trees[name], Facts(bos=0, eos=1))
    lost = {
        part.__name__: fields
        for part in parts
        if (fields := {field.name for field in dataclasses.fields(part)} - read[part] - allowed(part))
    }
    assert not lost, f"the twin of each does without: {lost}"


def allowed(part):
    return TRAINING["*"] | TRAINING.get(part.__name__, set())


@pytest.mark.parametrize("name", [name for name in TRAINING if name != "*"])
def test_what_is_allowed_is_a_field(name):
    kinds = {type(node).__name__: type(node) for spec in CASES.values() for _, node in walk(spec)}
    assert TRAINING[name] <= {field.name for field in dataclasses.fields(kinds[name])}

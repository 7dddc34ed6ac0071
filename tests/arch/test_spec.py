"""Specs: all problems at once, each naming its field; flattening, text and differences."""

import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from jaxtyping import TypeCheckError

from arch.blocks import PreNorm
from arch.layers.attention.masks import LocalWindow, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Learned
from arch.models.decoder import Decoder
from arch.spec import Problem, Spec, SpecError, above, at_least, between, differences, flatten, one_of, to_text, walk


@dataclasses.dataclass(frozen=True)
class Leaf(Spec):
    size: int | None = 1
    rate: float = 0.5
    kind: str = "a"

    def problems(self):
        yield from at_least(self, 1, "size")
        yield from above(self, 0, "rate")
        yield from between(self, 0, 1, "rate")
        yield from one_of(self, "kind", ("a", "b"))


@dataclasses.dataclass(frozen=True)
class Tree(Spec):
    left: Spec = Leaf()
    several: tuple[Any, ...] = (Leaf(), 3)
    named: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"x": Leaf(size=2)})
    plain: tuple[int, ...] = (1, 2)


def test_all_problems_at_once():
    with pytest.raises(SpecError) as error:
        Leaf(size=0, rate=2.0, kind="c")
    assert error.value.node is Leaf
    assert [problem.field for problem in error.value.problems] == ["size", "rate", "kind"]
    assert str(error.value).splitlines() == [
        "Leaf.size=0: must be at least 1",
        "Leaf.rate=2.0: must be between 0 and 1",
        "Leaf.kind='c': must be one of a, b",
    ]


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), float("-inf"), 0.0])
def test_numbers_that_are_none_are_refused(rate):
    with pytest.raises(SpecError, match=r"Leaf\.rate"):
        Leaf(rate=rate)


def test_none_means_a_default():
    assert Leaf(size=None).size is None


def test_replace_checks_again():
    with pytest.raises(SpecError, match=r"Leaf\.size=-1"):
        dataclasses.replace(Leaf(), size=-1)


def test_refuse_carries_the_node():
    node = Leaf(size=7)
    error = node.invalid("size", "must divide 8")
    assert isinstance(error, SpecError)
    assert error.node is node
    assert error.problems == (Problem("size", 7, "must divide 8"),)
    assert str(error) == "Leaf.size=7: must divide 8"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.node, copy.problems, str(copy)) == (node, error.problems, str(error))


def test_problem_line_has_the_path():
    assert Problem("heads", -1, "must be at least 1").line("model.block.mixer") == (
        "model.block.mixer.heads=-1: must be at least 1"
    )
    assert Problem("heads", -1, "no").line() == "heads=-1: no"


def test_flatten_goes_through_tuples_and_mappings():
    assert flatten(Tree()) == {
        "": "Tree",
        "left": "Leaf",
        "left.size": 1,
        "left.rate": 0.5,
        "left.kind": "a",
        "several.0": "Leaf",
        "several.0.size": 1,
        "several.0.rate": 0.5,
        "several.0.kind": "a",
        "several.1": 3,
        "named.x": "Leaf",
        "named.x.size": 2,
        "named.x.rate": 0.5,
        "named.x.kind": "a",
        "plain": (1, 2),
    }


def test_text_has_one_line_a_field():
    assert to_text(Leaf()) == "(root) = Leaf\nsize = 1\nrate = 0.5\nkind = a\n"


def test_walk_gives_parents_first():
    paths = [path for path, _ in walk(Tree())]
    assert paths[0] == ""
    assert paths.index("left") < paths.index("left.size")
    assert {"several.0.size", "named.x.size", "plain.1"} <= set(paths)


def test_differences_of_parts_and_fields():
    old, new = Decoder(), Decoder(depth=3, block=PreNorm(norm=LayerNorm()))
    assert differences(old, old) == []
    assert differences(old, new) == [
        "depth: 8 -> 3",
        "block.norm: RMSNorm -> LayerNorm",
        "block.norm.eps: 1e-06 -> 1e-05",
        "block.norm.bias: (absent) -> True",
    ]
    assert differences(flatten(new), old)[-1] == "block.norm.bias: True -> (absent)"
    assert differences(Leaf(), Tree())[0] == "(root): Leaf -> Tree"


def test_specs_are_values():
    assert Decoder() == Decoder()
    assert hash(Decoder()) == hash(Decoder())
    assert Decoder() != Decoder(depth=2)
    assert PreNorm() != dataclasses.replace(PreNorm(), dropout=0.1)


@pytest.mark.parametrize(
    ("line", "make"),
    [
        ("Attention.heads=0: must be at least 1", lambda: Attention(heads=0)),
        ("Attention.head_dim=0: must be at least 1", lambda: Attention(head_dim=0)),
        ("Attention.kv_heads=0: must be at least 1", lambda: Attention(kv_heads=0)),
        ("Attention.kv_heads=3: must divide heads=8", lambda: Attention(kv_heads=3)),
        ("Attention.softcap=0.0: must be greater than 0", lambda: Attention(softcap=0.0)),
        ("Attention.scale=-1.0: must be greater than 0", lambda: Attention(scale=-1.0)),
        ("Attention.position=Learned(length=4): belongs to the model", lambda: Attention(position=Learned(length=4))),
        ("SlidingWindow.window=0: must be at least 1", lambda: SlidingWindow(0)),
        ("LocalWindow.radius=-1: must be at least 0", lambda: LocalWindow(-1)),
        ("MLP.hidden=0: must be at least 1", lambda: MLP(hidden=0)),
        ("MLP.activation='tanh': must be one of relu, gelu", lambda: MLP(activation="tanh")),
        ("GatedMLP.hidden=-3: must be at least 1", lambda: GatedMLP(hidden=-3)),
        ("GatedMLP.activation='swish': must be one of", lambda: GatedMLP(activation="swish")),
        ("Embedding.scale=0.0: must be greater than 0", lambda: Embedding(scale=0.0)),
        ("Tied.softcap=0.0: must be greater than 0", lambda: Tied(softcap=0.0)),
        ("Untied.softcap=-1.0: must be greater than 0", lambda: Untied(softcap=-1.0)),
    ],
)
def test_impossible_parts_are_refused(line, make):
    # The type checker that the tests may run under refuses a wrong literal before the spec can.
    with pytest.raises((SpecError, TypeCheckError)) as error:
        make()
    assert str(error.value).startswith(line) or isinstance(error.value, TypeCheckError)

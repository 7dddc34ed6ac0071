"""Overrides that are taken: each type, parts by name, order; and that no text whatever is a traceback."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.errors import ConfigError
from tests.experiments.config.toys import Attention, Colour, LayerNorm, Model, RMSNorm, Rule, Run, Scaled, override


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("steps=12", 12),
        ("steps=1e4", 10000),
        ("steps=1_000", 1000),
        ("rate=1e-3", 1e-3),
        ("rate=3", 3.0),
        ("rate=inf", float("inf")),
        ("seed=5", 5),
        ("seed=None", None),
        ("seed=none", None),
        ("name=None", "None"),
        ("name=", ""),
        ("name=a,b=c", "a,b=c"),
        ("name='x y'", "x y"),
        ("note=None", None),
        ("note=none", "none"),
        ("note='None'", "None"),
        ("fast", True),
        ("fast=true", True),
        ("fast=0", False),
        ("fast=No", False),
        ("mode=unroll", "unroll"),
        ("colour=BLUE", Colour.BLUE),
        ("colour=blue", Colour.BLUE),
        ("colour=b", Colour.BLUE),
        ("sizes=1,2,3", (1, 2, 3)),
        ("sizes=(4,)", (4,)),
        ("sizes=[4, 5]", (4, 5)),
        ("sizes=()", ()),
        ("sizes=", ()),
        ("sizes=7", (7,)),
        ("sizes.1=9", (1, 9)),
        ("pair=3,4", (3, 4.0)),
        ("pair.1=5", (1, 5.0)),
        ("rules.0.pattern=norm|bias", (Rule("norm|bias"),)),
        ("rules=Rule('a,b', 0.5),Rule(factor=2)", (Rule("a,b", 0.5), Rule(factor=2.0))),
        ("rules=(Rule(a.*), Rule)", (Rule("a.*"), Rule())),
        ("table.b=3", {"a": 1.0, "b": 3.0}),
        ("table={x: 1, 'y': 2e1}", {"x": 1.0, "y": 20.0}),
        ("arms.one=LayerNorm", {"one": LayerNorm()}),
        ("arms.one.eps=0.5", {"one": RMSNorm(0.5)}),
        ("arms={two: LayerNorm(eps=1)}", {"two": LayerNorm(1.0)}),
        ("either=3", 3),
        ("either=three", "three"),
        ("length=3", 3),
        ("length=0.5", 0.5),
        ("warm=auto", "auto"),
        ("warm=7", 7),
        ("anything=(1, 'a')", (1, "a")),
        ("anything=words", "words"),
    ],
)
def test_each_type(flag, value):
    name = flag.partition("=")[0].partition(".")[0]
    result = getattr(override(flag), name)
    assert result == value
    assert type(result) is type(value)


def test_only_the_overridden_field_changes_and_the_rest_is_the_same_object():
    run = Run()
    changed = override("model.mixer.heads=8", spec=run)
    assert changed == dataclasses.replace(run, model=dataclasses.replace(run.model, mixer=Attention(heads=8)))
    assert changed.model.norm is run.model.norm
    assert override(spec=run) is run


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("model.norm=LayerNorm", LayerNorm()),
        ("model.norm=LayerNorm()", LayerNorm()),
        ("model.norm=LayerNorm(eps=1e-2, bias=false)", LayerNorm(1e-2, False)),
        ("model.norm=LayerNorm(1e-2)", LayerNorm(1e-2)),
        ("model.norm=Scaled(base=Scaled(LayerNorm(eps=2), factor=3))", Scaled(Scaled(LayerNorm(2.0), 3.0))),
        ("model.norm=tests.experiments.config.toys:LayerNorm", LayerNorm()),
        ("model.norm=tests.experiments.config.toys:LayerNorm(eps=3)", LayerNorm(3.0)),
        ("model.extra=RMSNorm", RMSNorm()),
        ("model.mixer=Attention(heads=2, norm=LayerNorm)", Attention(2, norm=LayerNorm())),
        ("model.layers=LayerNorm(eps=1),RMSNorm", (LayerNorm(1.0), RMSNorm())),
        ("model.layers.1=Scaled(RMSNorm)", (RMSNorm(), Scaled(RMSNorm()))),
    ],
)
def test_part_by_name(flag, value):
    name = flag.split("=")[0].split(".")[1]
    assert getattr(override(flag).model, name) == value


def test_replacing_a_part_carries_nothing_over():
    spec = Run(model=Model(norm=LayerNorm(eps=0.5, bias=False)))
    assert override("model.norm=RMSNorm", spec=spec).model.norm == RMSNorm()
    assert override("model.norm=LayerNorm", spec=spec).model.norm == LayerNorm()


@pytest.mark.parametrize("flip", [False, True])
def test_field_overrides_apply_to_the_new_part_whatever_the_order(flip):
    flags = ["model.norm=Scaled(LayerNorm(eps=1))", "model.norm.factor=2", "model.norm.base.bias=false"]
    assert override(*(flags[::-1] if flip else flags)).model.norm == Scaled(LayerNorm(1.0, False), 2.0)


@pytest.mark.parametrize("flip", [False, True])
def test_overrides_can_give_what_a_new_part_requires(flip):
    flags = ["model.norm=Scaled", "model.norm.base=LayerNorm", "model.norm.base.eps=3", "model.mixer=Attention",
             "model.mixer.heads=2"]  # fmt: skip
    model = override(*(flags[::-1] if flip else flags)).model
    assert (model.norm, model.mixer) == (Scaled(LayerNorm(3.0)), Attention(2))


def test_the_last_of_several_counts():
    assert override("steps=3", "steps=4").steps == 4
    assert override("steps=x", "steps=4").steps == 4


@given(st.integers(min_value=1, max_value=10**20), st.floats(allow_nan=False), st.lists(st.integers(), max_size=5))
def test_numbers_as_python_writes_them_come_back(steps, rate, sizes):
    run = override(f"steps={steps!r}", f"rate={rate!r}", f"sizes={tuple(sizes)!r}", f"pair={(steps, rate)!r}")
    assert (run.steps, run.rate, run.sizes, run.pair) == (steps, rate, tuple(sizes), (steps, rate))


@given(st.text())
def test_quoted_text_comes_back(text):
    run = override(f"name={text!r}", f"rules=Rule({text!r}),Rule(pattern={text!r})")
    assert run.name == text
    assert run.rules == (Rule(text), Rule(text))


PATHS = ["steps", "model.norm", "model.mixer.heads", "sizes.0", "rules", "table.a", "model.extra", "anything"]


@given(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4), st.text(alphabet="a1(),='\"{}.: N-", max_size=12))
def test_no_text_whatever_makes_anything_but_a_value_or_lines(paths, text):
    try:
        lines = [] if isinstance(override(*(f"{path}={text}" for path in paths)), Run) else ["not a Run"]
    except ConfigError as error:
        lines = list(error.lines)
    assert [line for line in lines if not line.startswith(("--config.", "config.")) or "\n" in line] == []

"""Overrides that are refused: one line each, and all together."""

import dataclasses
import gc

import pytest

from arch.spec import Problem, Spec, SpecError
from experiments.config.errors import ConfigError, spec_error_lines
from tests.experiments.config.toys import Attention, LayerNorm, Model, RMSNorm, Run, Scaled, override


def mistakes(*flags: str, spec: Spec | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        override(*flags, spec=spec)
    assert "\n".join(caught.value.lines) == str(caught.value)
    return list(caught.value.lines)


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("model.detph=12", "--config.model.detph=12: no such field in Model; did you mean depth?"),
        ("modle.depth=12", "--config.modle.depth=12: no such field in Run; did you mean model?"),
        ("qqqqqq=1", "--config.qqqqqq=1: no such field in Run"),
        ("model.depth=twelve", "--config.model.depth=twelve: expected int"),
        ("model.depth=1.0", "--config.model.depth=1.0: expected int"),
        ("model.depth=1.5e0", "--config.model.depth=1.5e0: expected int"),
        ("model.depth", "--config.model.depth: needs a value: int"),
        ("model.depth=", "--config.model.depth=: expected int"),
        ("rate=fast", "--config.rate=fast: expected float"),
        ("seed=x", "--config.seed=x: expected int or None"),
        ("fast=maybe", "--config.fast=maybe: expected true or false"),
        ("mode=scam", "--config.mode=scam: must be one of scan, unroll; did you mean scan?"),
        ("warm=x", "--config.warm=x: expected int or one of auto"),
        ("colour=green", "--config.colour=green: must be one of RED, BLUE"),
        ("sizes=1,x", "--config.sizes=1,x: item 1 (x): expected int"),
        ("sizes=(1,2", "--config.sizes=(1,2: ')' is missing in '(1,2'"),
        ("sizes.2=1", "--config.sizes.2=1: the tuple has 2 items, counted from 0"),
        ("pair=1", "--config.pair=1: expected a tuple (int, float): 2 items, not 1"),
        ("table.c=1", "--config.table.c=1: no such key; to add one, give the whole mapping as "
                      "--config.table={key: value}"),
        ("table=1", "--config.table=1: expected a mapping, as in {key: value}"),
        ("steps=0", "--config.steps=0: must be at least 1"),
        ("steps.x=1", "--config.steps.x=1: config.steps is 10, which has no fields"),
        ("computed=1", "--config.computed=1: computed of Run is computed and cannot be set"),
        ("model..depth=1", "--config.model..depth=1: an empty name in the path"),
        ("model.mixer.heads=-1", "--config.model.mixer.heads=-1: must be at least 1"),
        ("model.extra.eps=1", "--config.model.extra.eps=1: config.model.extra is None; first give it a value as "
                              "--config.model.extra=... (Norm)"),
        ("model.norm=LayrNorm", "--config.model.norm=LayrNorm: no such part; did you mean LayerNorm? "
                                "(parts allowed: LayerNorm, RMSNorm, Scaled)"),
        ("model.norm=Attention", "--config.model.norm=Attention: no such part "
                                 "(parts allowed: LayerNorm, RMSNorm, Scaled)"),
        ("model.norm=Norm", "--config.model.norm=Norm: no such part; did you mean RMSNorm? "
                            "(parts allowed: LayerNorm, RMSNorm, Scaled)"),
        ("model.norm=LayerNorm(epz=1)", "--config.model.norm=LayerNorm(epz=1): no such field in LayerNorm: epz; "
                                        "did you mean eps?"),
        ("model.norm=LayerNorm(eps=x)", "--config.model.norm=LayerNorm(eps=x): eps=x: expected float"),
        ("model.norm=LayerNorm(1, 2, 3)", "--config.model.norm=LayerNorm(1, 2, 3): bias=2: expected true or false"),
        ("model.norm=LayerNorm(1, 1, 3)", "--config.model.norm=LayerNorm(1, 1, 3): LayerNorm takes 2 arguments"),
        ("model.norm=LayerNorm(eps=1", "--config.model.norm=LayerNorm(eps=1: expected a part, as Name or "
                                       "Name(field=value) (parts allowed: LayerNorm, RMSNorm, Scaled)"),
        ("model.norm=LayerNorm(1, eps=2)", "--config.model.norm=LayerNorm(1, eps=2): eps is given twice"),
        ("model.norm=LayerNorm(eps=-1)", "--config.model.norm=LayerNorm(eps=-1): eps=-1.0: must be at least 0"),
        ("model.norm=Scaled", "--config.model.norm=Scaled: Scaled needs base; add --config.model.norm.base=(Norm)"),
        ("model.norm=Scaled(Scaled)", "--config.model.norm=Scaled(Scaled): base: Scaled needs base; "
                                      "add --config.model.norm.base.base=(Norm)"),
        ("model.norm=nowhere:Norm", "--config.model.norm=nowhere:Norm: module nowhere cannot be imported: "
                                    "No module named 'nowhere'"),
        ("model.norm=arch.spec:Spek", "--config.model.norm=arch.spec:Spek: module arch.spec has no Spek; "
                                      "did you mean Spec?"),
        ("model.norm=tests.experiments.config.toys:Model",
         "--config.model.norm=tests.experiments.config.toys:Model: Model is no Norm"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(flag, line):
    assert mistakes(flag) == [line]


def test_all_mistakes_at_once_in_the_order_of_the_command_line():
    assert mistakes(
        "model.depth=twelve", "steps=5000", "model.detph=1", "fast", "model.mixer.heads=-1", "rules.0.patern=x",
        "model.mixer.head_dim=0", "model.norm=Foo", "model.norm.eps=x", "model.width=0", "arms.one.eps=-2",
    ) == [
        "--config.model.depth=twelve: expected int",
        "--config.model.detph=1: no such field in Model; did you mean depth?",
        "--config.model.mixer.heads=-1: must be at least 1",
        "--config.rules.0.patern=x: no such field in Rule; did you mean pattern?",
        "--config.model.mixer.head_dim=0: must be at least 1",
        "--config.model.norm=Foo: no such part (parts allowed: LayerNorm, RMSNorm, Scaled)",
        "--config.model.width=0: must be at least 1",
        "--config.arms.one.eps=-2: must be at least 0",
        "--config.steps=5000: must be at most 1000 when fast",
    ]  # fmt: skip


def test_a_cross_check_does_not_judge_what_stands_in_for_a_bad_override():
    assert mistakes("fast", "steps=many", spec=Run(steps=5000)) == ["--config.steps=many: expected int"]


def test_a_field_of_the_file_that_is_refused_is_named_without_dashes():
    run = Run(steps=5000)
    assert mistakes("fast", spec=run) == ["config.steps=5000: must be at most 1000 when fast"]


def test_one_bad_field_does_not_hide_what_a_check_over_two_good_ones_finds():
    assert mistakes("steps=2000", "fast=true", "model.depth=x") == [
        "--config.model.depth=x: expected int",
        "--config.steps=2000: must be at most 1000 when fast",
    ]


@dataclasses.dataclass(frozen=True)
class Odd(Spec):
    size: int = 2
    double: int = 4

    def __post_init__(self) -> None:
        if self.double != 2 * self.size:
            raise ValueError(f"double must be\n{2 * self.size}")


@dataclasses.dataclass(frozen=True)
class Holder(Spec):
    odd: Odd = Odd()
    count: int = 1

    def conflicts(self):
        if self.count == 2:
            raise SpecError(self.odd, [Problem("size", self.odd.size, "clashes")])
        if self.count == 3:
            yield SpecError(self.odd, [Problem("size", self.odd.size, "clashes")])
            yield "in words"


def test_any_exception_of_a_spec_is_told_in_a_line():
    assert mistakes("odd.size=3", spec=Holder()) == ["config.odd: Odd: ValueError: double must be 6"]
    assert override("odd.size=3", "odd.double=6", spec=Holder()).odd == Odd(3, 6)


def test_conflicts_may_raise_or_yield_errors_of_any_node():
    assert mistakes("count=2", spec=Holder()) == ["config.odd.size=2: clashes"]
    assert mistakes("count=3", spec=Holder()) == ["config.odd.size=2: clashes", "in words"]


def test_same_name_in_two_modules_must_be_told_apart():
    @dataclasses.dataclass(frozen=True)
    class LayerNorm(RMSNorm):
        pass

    line = mistakes("model.norm=LayerNorm")[0]
    assert "several parts are called LayerNorm; write tests.experiments.config.test_mistakes:test_same" in line
    assert line.endswith(" or tests.experiments.config.toys:LayerNorm")
    assert override("model.norm=tests.experiments.config.toys:LayerNorm").model.norm.bias
    del LayerNorm
    gc.collect()


def test_an_error_of_build_names_the_path():
    run = Run(model=Model(width=60, mixer=Attention(heads=7)))
    with pytest.raises(SpecError) as caught:
        run.model.build()
    line = "must divide the width 60"
    assert spec_error_lines(caught.value, run) == [f"config.model.mixer.heads=7: {line}"]
    typed = {"model.mixer.heads": "7"}
    assert spec_error_lines(caught.value, run, typed) == [f"--config.model.mixer.heads=7: {line}"]
    typed = {"model.mixer": "Attention(7)"}
    assert spec_error_lines(caught.value, run, typed) == [f"--config.model.mixer=Attention(7): heads=7: {line}"]


def test_an_error_of_a_spec_that_is_not_in_the_configuration_is_found_by_class_or_told_by_it():
    run = Run(model=Model(layers=(RMSNorm(),), norm=LayerNorm()))
    problem = [Problem("eps", 3.0, "too large")]
    assert spec_error_lines(SpecError(LayerNorm(3.0), problem), run) == ["config.model.norm.eps=3.0: too large"]
    assert spec_error_lines(SpecError(Scaled(RMSNorm()), problem), run) == ["Scaled.eps=3.0: too large"]
    two = SpecError(RMSNorm(3.0), problem)
    assert spec_error_lines(two, run) == ["RMSNorm.eps=3.0: too large"]

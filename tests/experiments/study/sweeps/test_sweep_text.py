"""What `--sweep` reads, and what it says of mistakes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arch.spec import SpecError, UserError
from experiments.config.errors import ConfigError
from experiments.study.sweeps.draws import Choice, LogUniform, Uniform
from experiments.study.sweeps.sweep import Grid, Sample, Where, Zip, arms
from experiments.study.sweeps.sweep_text import from_text
from tests.experiments.config.toys import Run

settings.register_profile("same_every_time", derandomize=True, database=None, deadline=None)
settings.load_profile("same_every_time")

TWO = {"model.depth": ("1", "2"), "rate": ("1e-3", "3e-3")}


@pytest.mark.parametrize(
    ("text", "sweep"),
    [
        ("model.depth=1,2;rate=1e-3,3e-3", Grid(TWO)),
        (" grid: model.depth = 1, 2 ; rate = 1e-3, 3e-3 ; ", Grid(TWO)),
        ("config.model.depth=1,2;--config.rate=1e-3,3e-3", Grid(TWO)),
        ("zip:model.depth=1,2;rate=1e-3,3e-3", Zip(TWO)),
        ("model.depth=1,2;rate=1e-3,3e-3 where depth * rate < 0.1", Where(Grid(TWO), "depth * rate < 0.1")),
        ("model.norm=LayerNorm(eps=1e-6, bias=false),RMSNorm",
         Grid({"model.norm": ("LayerNorm(eps=1e-6, bias=false)", "RMSNorm")})),
        ("sizes=(1,2),(3,4)", Grid({"sizes": ("(1,2)", "(3,4)")})),
        ("name='a;b','c,d'", Grid({"name": ("'a;b'", "'c,d'")})),
        ("sample 4: rate=log(1e-4,1e-2); model.depth=1,2",
         Sample({"rate": LogUniform(1e-4, 1e-2), "model.depth": Choice(("1", "2"))}, 4, 0)),
        ("sample 4 seed 7: rate=uniform(0, 1) where rate > 0.5",
         Where(Sample({"rate": Uniform(0.0, 1.0)}, 4, 7), "rate > 0.5")),
        ("sample 1: model.norm=LayerNorm(1e-6,true)",
         Sample({"model.norm": Choice(("LayerNorm(1e-6,true)",))}, 1)),
    ],
)  # fmt: skip
def test_sweeps(text, sweep):
    assert from_text(text) == sweep


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["--sweep: names no field; give it as model.depth=1,2,4; model.width=32,64"]),
        ("depth", ["--sweep: depth: expected a field and its values, as model.depth=1,2,4; model.width=32,64"]),
        ("a=1;a=2;b=;.c=1", ["--sweep: a: is given twice; list all its values once",
                      "--sweep: b=: expected a field and its values, as model.depth=1,2,4; model.width=32,64",
                      "--sweep: .c=1: expected a field and its values, as model.depth=1,2,4; model.width=32,64"]),
        ("zip:a=1,2;b=1", ["--sweep: Zip.axes={'a': 2, 'b': 1}: must have equally many values of each field; "
                           "these are their numbers"]),
        ("zap:a=1,2", ["--sweep: zap: no such kind; grid:, zip: or sample COUNT [seed SEED]:"]),
        ("sample: a=1,2", ["--sweep: sample: no such kind; grid:, zip: or sample COUNT [seed SEED]:"]),
        ("sample 0: a=1,2", ["--sweep: Sample.count=0: must be at least 1"]),
        ("sample 99999999999: a=log(1,2)", ["--sweep: Sample.count=99999999999: must be at most 100,000 points"]),
        ("sample " + "9" * 5000 + ": a=1,2", ["--sweep: sample COUNT [seed SEED]: numbers of at most 18 digits"]),
        (";".join(f"{name}=" + ",".join(map(str, range(100))) for name in "abcdefghij"),
         [f"--sweep: Grid.axes={100**10}: must be at most 100,000 points"]),
        ("sample 2: a=log(x,1)", ["--sweep: a=log(x,1): needs two numbers, as log(1e-4,1e-2)"]),
        ("sample 2: a=log(0,1)", ["--sweep: a=log(0,1): LogUniform.low=0.0: must be greater than 0"]),
        ("a=(1,2", ["--sweep: ')' is missing in 'a=(1,2'"]),
        ("a=1 where a <", ["--sweep: Where.condition='a <': is no condition, as depth * width <= 512"]),
        ("a=1 where a where b", ["--sweep: has two conditions; join them by and"]),
    ],
)  # fmt: skip
def test_mistakes(text, lines):
    with pytest.raises(ConfigError) as caught:
        from_text(text)
    assert list(caught.value.lines) == lines


@given(st.text(alphabet="ab=,;:().'1 -wherzipsmpl", max_size=30))
def test_any_text_is_a_sweep_or_a_mistake_told_in_lines(text):
    try:
        points = from_text(text).points()
    except (SpecError, UserError):
        return
    assert all(isinstance(value, str | float) for point in points for value in point.values())


def test_from_the_command_line_to_runs():
    made = arms(Run(), from_text("model.depth=1,4; rate=1e-3,3e-3 where depth * rate < 0.01"))
    assert {name: (run.model.depth, run.rate) for name, run in made.items()} == {
        "depth=1 rate=1e-3": (1, 1e-3),
        "depth=1 rate=3e-3": (1, 3e-3),
        "depth=4 rate=1e-3": (4, 1e-3),
    }

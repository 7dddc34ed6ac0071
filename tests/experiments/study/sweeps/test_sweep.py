"""Sweeps: the laws of their points, their names, what they make of a run, and what is said of mistakes."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arch import cost
from arch.spec import SpecError, UserError
from experiments.config.errors import ConfigError
from experiments.config.overrides import Override, apply
from experiments.config.stored import from_json, to_json
from experiments.study.sweeps import expressions
from experiments.study.sweeps.draws import Choice, LogUniform, Uniform
from experiments.study.sweeps.names import point_names, short_paths, value_text
from experiments.study.sweeps.sweep import Grid, Zip, arms, chain, cross, grid, sample, where, zipped
from tests.experiments.config.toys import LayerNorm, Model, Run
from tests.train import toys

settings.register_profile("same_every_time", derandomize=True, database=None, deadline=None)
settings.load_profile("same_every_time")

VALUES = st.lists(st.integers(-50, 50) | st.sampled_from(["a", "b", "c d"]), min_size=1, max_size=4, unique=True)
AXES = st.dictionaries(st.sampled_from(["model.depth", "model.width", "x", "y.depth"]), VALUES, min_size=1)


@given(AXES)
def test_a_grid_is_the_product_with_the_last_field_fastest(axes):
    points = grid(axes).points()
    assert len(points) == math.prod(map(len, axes.values()))
    assert [tuple(point.values()) for point in points] == list(itertools.product(*axes.values()))


@given(AXES)
def test_a_zip_pairs_equal_lengths_and_refuses_others_in_one_line(axes):
    lengths = {len(values) for values in axes.values()}
    if len(lengths) > 1:
        with pytest.raises(SpecError) as caught:
            zipped(axes)
        assert len(str(caught.value).splitlines()) == 1
        assert "equally many values" in str(caught.value)
    else:
        assert [tuple(point.values()) for point in zipped(axes).points()] == list(zip(*axes.values(), strict=True))


@given(AXES, AXES)
def test_a_chain_keeps_order_and_drops_what_came_before(first, second):
    one, two = grid(first).points(), grid(second).points()
    points = chain(grid(first), grid(second)).points()
    assert points[: len(one)] == one
    assert points[len(one) :] == [point for point in two if point not in one]
    assert chain(grid(first), grid(first)).points() == one


@given(AXES, st.data())
def test_cross_is_a_grid_cut_in_two(axes, data):
    cut = data.draw(st.integers(1, len(axes)))
    names = list(axes)
    parts = [grid({name: axes[name] for name in some}) for some in (names[:cut], names[cut:]) if some]
    assert cross(*parts).points() == grid(axes).points()


def test_cross_refuses_a_field_that_both_have():
    with pytest.raises(UserError, match=r"^sweep: x in two of the sweeps"):
        cross(grid({"x": (1,)}), grid({"x": (2,), "y": (1,)})).points()


@given(AXES, st.integers(-50, 50))
def test_where_keeps_what_its_condition_holds_for(axes, bound):
    axes = {**axes, "size": [-20, 0, 20, 40]}
    kept = where(grid(axes), f"size <= {bound} or size == 40").points()
    assert kept == [point for point in grid(axes).points() if point["size"] <= bound or point["size"] == 40]
    assert where(grid(axes), lambda point: point["size"] <= bound or point["size"] == 40).points() == kept


@given(st.integers(1, 12), st.integers(0, 2**32), st.integers(0, 8))
def test_a_sample_is_reproducible_and_grows(count, seed, more):
    axes = {"a": LogUniform(1e-4, 1e-2), "b": Uniform(-1.0, 2.0), "c": (1, 2, 3)}
    points = sample(axes, count, seed).points()
    assert points == sample(axes, count, seed).points()
    assert points == sample(axes, count + more, seed).points()[:count]
    assert all(1e-4 <= p["a"] <= 1e-2 and -1 <= p["b"] <= 2 and p["c"] in (1, 2, 3) for p in points)
    without = sample({name: axes[name] for name in ("a", "b")}, count, seed).points()
    assert [(p["a"], p["b"]) for p in without] == [(p["a"], p["b"]) for p in points]
    assert sample(axes, count, seed + 1).points() != points


def test_a_sample_follows_its_distributions():
    points = sample({"a": LogUniform(1e-4, 1e-2), "b": Uniform(0.0, 4.0)}, 2000).points()
    logs = sorted(math.log10(point["a"]) for point in points)
    plain = sorted(point["b"] for point in points)
    for index, share in ((500, 0.25), (1000, 0.5), (1500, 0.75)):  # standard errors below 0.02 of the range
        assert logs[index] == pytest.approx(-4 + 2 * share, abs=0.1)
        assert plain[index] == pytest.approx(4 * share, abs=0.2)
    assert all(float(f"{point['a']:.6g}") == point["a"] for point in points)


def test_a_sample_has_different_points_or_is_refused():
    assert {p["x"] for p in sample({"x": (1, 2, 3)}, 3).points()} == {1, 2, 3}
    with pytest.raises(SpecError, match=r"count=4: must be at most 3"):
        sample({"x": (1, 2, 3)}, 4).points()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: grid({}), "Grid.axes={}: must name at least one field"),
        (lambda: grid({"x": ()}), "Grid.axes[x]=(): must be a sequence of at least one value"),
        (lambda: Grid({"x": "abc"}), "Grid.axes[x]='abc': must be a sequence of at least one value"),
        (lambda: grid({"x": ([1],)}), "Grid.axes[x]=[1]: must be a number or text, as --config.PATH=VALUE has it"),
        (lambda: grid({"model..x": (1,)}), "Grid.axes='model..x': must be the path of a field, as model.depth"),
        (lambda: Zip({"x": (1, 2), "y": (1,)}),
         "Zip.axes={'x': 2, 'y': 1}: must have equally many values of each field; these are their numbers"),
        (lambda: Uniform(1.0, 1.0), "Uniform.high=1.0: must be greater than low=1"),
        (lambda: LogUniform(0.0, 1.0), "LogUniform.low=0.0: must be greater than 0"),
        (lambda: Choice(()), "Choice.values=(): must be a sequence of at least one value"),
        (lambda: sample({"x": (1,)}, 0), "Sample.count=0: must be at least 1"),
        (lambda: where(grid({"x": (1,)}), "x.y()"),
         "Where.condition='x.y()': x.y() is not allowed; only arithmetic, comparisons, and, or, not, in"),
    ],
)  # fmt: skip
def test_what_is_not_defined_is_refused_in_one_line(make, said):
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == said


def test_sweeps_are_stored_as_configurations_are():
    for sweep in (chain(grid({"x": (1, 2)}), zipped({"y": (1.5, "a")})), where(sample({"x": (1,)}, 1), "x > 0")):
        assert from_json(to_json(sweep)) == sweep
        assert from_json(to_json(sweep)).points() == sweep.points()


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("depth * width <= 8", True),
        ("model.depth ** 2 > 1", None),
        ("model.depth + 1 == 3 and not norm == 'LayerNorm'", True),
        ("1 < depth < 2", False),
        ("depth in (1, 2, 3)", True),
        ("norm not in ['RMSNorm']", False),
        ("-rate < -0.001 or width % 3 == 1", True),
        ("7 // depth == 3 and width / 8 == 0.5", True),
        ("fast", True),
        ("__import__('os')", None),
        ("depth.__class__", None),
        ("lambda: 1", None),
        ("depth if 1 else 2", None),
        ("depth <", None),
        ("", None),
        ("detph == 1", None),
        ("norm < 3", None),
        ("depth / 0", None),
        ("heads == 1", None),
    ],
)
def test_conditions(text, truth):
    point = {"model.depth": 2, "model.width": "4", "model.norm": "RMSNorm", "rate": "3e-3", "fast": "true"}
    point |= {"a.heads": 1, "b.heads": 2}
    if truth is None:
        with pytest.raises(UserError) as caught:
            expressions.holds(text, point)
        assert len(str(caught.value).splitlines()) == 1
    else:
        assert expressions.holds(text, point) is truth


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none())
def test_the_text_of_a_value_reads_back(value):
    text = value_text(value)
    if isinstance(value, float):
        assert float(text) == value
        assert len(text) <= len(repr(value))
    else:
        assert text == {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def test_names_are_short():
    assert point_names(grid({"model.depth": (1, 4), "optimizer.learning_rate": (1e-3, 0.03)}).points()) == [
        "depth=1 lr=1e-3", "depth=1 lr=0.03", "depth=4 lr=1e-3", "depth=4 lr=0.03"]  # fmt: skip
    assert short_paths(["a.mixer.heads", "b.mixer.heads", "b.width", "rules.0", "lr", "learning_rate"]) == {
        "a.mixer.heads": "a.mixer.heads",
        "b.mixer.heads": "b.mixer.heads",
        "b.width": "width",
        "rules.0": "rules.0",
        "lr": "lr",
        "learning_rate": "learning_rate",
    }
    assert short_paths(["heads", "mixer.heads"]) == {"heads": "heads", "mixer.heads": "mixer.heads"}
    assert point_names([{}, {"x": True}, {"x": 1e-5}, {"x": "1 y=2"}, {"x": "a/b"}, {"x": 1, "y": 2}]) == [
        "base", "x=true", "x=1e-5", "x=1 y=2", "x=a|b", "x=1 y=2 #2"]  # fmt: skip


@given(AXES, AXES)
def test_names_are_unique_and_do_not_depend_on_how_often_they_are_made(first, second):
    points = chain(grid(first), grid(second)).points()
    names = point_names(points)
    assert len(set(names)) == len(points)
    assert point_names(list(points)) == names


def test_arms_are_the_runs_with_their_overrides():
    made = arms(Run(), grid({"model.depth": (1, 2), "model.norm": ("LayerNorm(eps=1e-6)",)}))
    assert made == {
        "depth=1 norm=LayerNorm(eps=1e-6)": Run(model=Model(depth=1, norm=LayerNorm(eps=1e-6))),
        "depth=2 norm=LayerNorm(eps=1e-6)": Run(model=Model(depth=2, norm=LayerNorm(eps=1e-6))),
    }


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=4, unique=True))
def test_arms_have_the_numbers_exactly(rates):
    sweep = grid({"rate": rates, "fast": (True, False)})
    made = arms(Run(), sweep)
    assert [(run.rate, run.fast) for run in made.values()] == [(p["rate"], p["fast"]) for p in sweep.points()]


def test_all_bad_points_are_told_at_once():
    sweep = chain(grid({"model.depth": (1, 0, "x"), "model.width": (8, 16, 32, 64)}), grid({"stps": (1,)}))
    with pytest.raises(ConfigError) as caught:
        arms(Run(), sweep)
    at = [f"(at depth={d} width=8, depth={d} width=16, depth={d} width=32, and 1 more points)" for d in "0x"]
    assert caught.value.lines == (
        f"sweep: model.depth=0: must be at least 1 {at[0]}",
        f"sweep: model.depth=x: expected int {at[1]}",
        "sweep: stps=1: no such field in Run; did you mean steps? (at stps=1)",
    )


def test_one_run_twice_and_no_run_at_all_are_refused():
    with pytest.raises(ConfigError) as caught:
        arms(Run(), grid({"model.depth": (2, "2e0", 3)}))
    assert caught.value.lines == ("sweep: depth=2e0: is the same run as depth=2",)
    with pytest.raises(ConfigError, match="has no points"):
        arms(Run(), where(grid({"model.depth": (1,)}), "depth > 1"))


def test_a_point_reads_as_the_command_line_does():
    point = {"model.norm": "LayerNorm", "sizes": "(4,5)", "note": None, "seed": 3}
    (made,) = arms(Run(), grid({path: (value,) for path, value in point.items()})).values()
    overrides = [Override("model.norm", "LayerNorm"), Override("sizes", "4,5"), Override("seed", "3")]
    assert made == apply(Run(), [*overrides, Override("note", "None")])


def test_crossed_sweeps_are_bounded():
    one = grid({"model.depth": range(1, 1001)})
    with pytest.raises(SpecError, match=r"Cross\.sweeps=1000000: must be at most 100,000 points"):
        cross(one, grid({"model.width": tuple(range(1000))})).points()


def test_a_sample_of_more_points_than_there_are_ends():
    with pytest.raises(SpecError, match="must be at most 6, the number of different points that were found"):
        sample({"model.depth": (1, 2), "model.width": (1, 2, 3)}, count=90_000).points()
    assert len(sample({"model.depth": tuple(range(300))}, count=300).points()) == 300


@pytest.mark.parametrize("text", ["9999999999*'a'", "'a'*9999999999 == 1", "'%99999999999d' % 1", "(1, 2)*10000000000",
                                  "[1]*9999999999*9", "depth*'a'"])  # fmt: skip
def test_a_condition_takes_no_time_and_no_memory(text):
    with pytest.raises(UserError, match="arithmetic takes numbers, not"):
        expressions.holds(text, {"model.depth": 9999999999})


def test_hundreds_of_wrong_points_are_some_lines():
    with pytest.raises(ConfigError) as told:
        arms(Run(), Grid({"model.depth": tuple(f"wrong{i}" for i in range(300))}))
    assert len(told.value.lines) == 21
    assert told.value.lines[-1] == "sweep: and 280 more mistakes of this kind"


def test_shapes_that_repeat_are_planned_once(monkeypatch):
    """Forty rates of one model are one plan; where it takes long, it is told how far it is."""
    run = toys.run(model=toys.model(width=40))
    built, abstract, notes = [], cost._abstract, list[str]()
    monkeypatch.setattr("arch.cost._abstract", lambda spec: built.append(spec) or abstract(spec))
    monkeypatch.setattr("experiments.study.sweeps.sweep.SECONDS", 0.0)
    made = arms(run, Grid({"optimizer.learning_rate": tuple(1e-3 * n for n in range(1, 41))}), notes.append)
    assert len(made) == 40
    assert built == [run.model]
    assert notes[1] == "planning: 1 of 40 arms are checked"


def test_a_plan_that_is_taken_again_is_another_model():
    first, second = (cost.abstract(toys.model()) for _ in range(2))
    assert first is not second
    first.stack = None
    assert cost.abstract(toys.model()).stack is not None

"""Claims are judged on the test split, learning rates chosen on validation; without a test split, it is said."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from arch.spec import SpecError
from experiments.study.claims.claims import AtLeast, AtMost, Best, Better, Equivalent, Monotone, NoWorse, RatioBelow
from experiments.study.claims.judge import judge_all
from experiments.study.claims.on_average import OnAverage
from experiments.study.engine import run_study
from experiments.study.report.page import page
from experiments.study.report.rate_plot import sweep
from experiments.study.report.report import terminal_table, write_report
from experiments.study.report.tables import finals
from experiments.study.results import Results
from experiments.suites.likelihood import NextToken
from tests.experiments.study import fake, toy
from tests.train import toys
from train.run import Logging

VALIDATION, TEST = "val/bits_per_byte", "test/bits_per_byte"
STORED = sorted((Path(__file__).parents[3] / "experiments" / "results").glob("*/results.json"))
CLAIMS = (
    Better("a", than="b"),
    NoWorse("a", than="b", margin=0.1),
    Equivalent("a", to="b", margin=0.1),
    Best("a"),
    Monotone(("b", "a")),
    OnAverage((Better("a", than="b"), Better("a", than="b"))),
    Better("a", than="b", metric="val/bits_per_byte"),
    RatioBelow("a", than="b", metric=VALIDATION, at_most=0.9),
    AtMost("a", VALIDATION, 1.5),
    AtLeast("b", VALIDATION, 1.5),
)


def results(judged_on):
    """On validation b is better by 1, on test a is."""
    noise = [0.0, 0.001, -0.001]
    arms = {
        "a": {VALIDATION: [2.0 + x for x in noise], TEST: [1.0 + x for x in noise]},
        "b": {VALIDATION: [1.0 - x for x in noise], TEST: [2.0 - x for x in noise]},
    }
    metric = TEST if judged_on == "test" else VALIDATION
    return fake.results(arms, metric=metric, tuned_by=VALIDATION, judged_on=judged_on)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: type(claim).__name__)
def test_every_claim_is_judged_on_test(claim):
    equal = isinstance(claim, Equivalent)
    (on_test,), (on_validation,) = (judge_all([claim], results(split)) for split in ("test", "validation"))
    assert (on_test.metric, on_validation.metric) == (TEST, VALIDATION)
    assert TEST in on_test.claim + on_test.effect
    assert VALIDATION not in on_test.claim + on_test.effect
    assert (on_test.verdict, on_validation.verdict) == ("not supported" if equal else "supported", "not supported")


def test_other_metrics_stay_what_they_are():
    judged = results("test").judged
    assert [judged(name) for name in ("train/loss", "films/loss", "diagnostics/norm", "val/loss")] == [
        "train/loss", "films/loss", "diagnostics/norm", "test/loss",
    ]  # fmt: skip
    assert results("validation").judged("val/loss") == "val/loss"


def shown(found):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(terminal_table(found))
    return capture.get()


@pytest.mark.parametrize(
    ("judged_on", "line"),
    [("test", "judged on the test split"), ("validation", "judged on validation, as the data has no test split")],
)
def test_what_was_judged_on_is_said(judged_on, line):
    found = results(judged_on)
    assert line in shown(found)
    assert line in page(found, [])
    assert "judged" not in shown(dataclasses.replace(found, judged_on=""))
    tuned = dataclasses.replace(found, cells=[*found.cells, dataclasses.replace(found.cells[0], phase="tune")])
    said = {"test": "learning rates chosen on validation", "validation": "it chose the learning rates too"}[judged_on]
    assert said in shown(tuned)
    assert said not in shown(found)


def test_a_study_is_tuned_on_validation_and_judged_on_test(tmp_path):
    data = toys.Toy(rows=24, held_out=5, test=83)
    run = toys.run(model=toys.model(depth=1), data=data, steps=2, logging=Logging(log=0, evaluate=1, checkpoint=2))
    study = toy.study(arms={"a": run}, claims=(AtMost("a", "val/loss", 99.0), AtMost("a", "val/loss", 0.1)))
    found = run_study(study, "toy", tmp_path)
    assert (found.metric, found.tuned_by, found.judged_on) == (TEST, VALIDATION, "test")
    tried = {cell.learning_rate: cell.metrics[VALIDATION] for cell in found.cells if cell.phase == "tune"}
    assert found.arms[0].learning_rate == min(tried, key=tried.get)
    seeds = [cell for cell in found.cells if cell.phase == "seeds"]
    assert list(found.values("a").values()) == [cell.metrics[TEST] for cell in seeds]
    for cell in found.cells:  # 83 rows are 11 batches, each a stretch
        kept = {name: len(values) for name, values in cell.stretches.items()}
        assert kept == ({"test/loss": 11, TEST: 11} if cell.phase == "seeds" else {})
    for cell in seeds:
        assert sum(cell.stretches[TEST]) / 11 == pytest.approx(cell.metrics[TEST], rel=0.02)
    assert finals(found).rows[0][3] == pytest.approx(sum(cell.metrics[TEST] for cell in seeds) / 2)
    assert [v["metric"] for v in found.verdicts] == ["test/loss"] * 2
    assert [v["verdict"] for v in found.verdicts] == ["supported", "not supported"]
    assert found.verdicts[0]["estimate"] == pytest.approx(sum(cell.metrics["test/loss"] for cell in seeds) / 2)
    for cell in seeds:
        assert [line["step"] for line in cell.curve if "test/loss" in line] == [2]
    assert Results.from_json((tmp_path / "results.json").read_text()).to_json() == found.to_json()


def test_one_arm_without_a_test_split_and_all_are_judged_on_validation():
    arms = {"a": toys.run(data=toys.Toy(test=3)), "b": toys.run()}
    assert not toy.study(arms=arms, claims=()).has_test
    assert toy.study(arms={"a": arms["a"]}, claims=()).has_test
    with pytest.raises(SpecError, match="suite='b': needs arms that all have a test split, or none"):
        toy.study(arms=arms, claims=(), suite=(NextToken(),))
    assert toy.study(arms={"a": arms["a"]}, claims=(), suite=(NextToken(),)).suite


def test_learning_rates_are_plotted_in_what_chose_them():
    found = fake.study()
    cells = [dataclasses.replace(cell, metrics={**cell.metrics, TEST: 77.0}) for cell in found.cells]
    judged = dataclasses.replace(found, metric=TEST, tuned_by=VALIDATION, judged_on="test", cells=cells)
    (plot,) = sweep(judged)
    (axes,) = plot.figure.axes
    assert axes.get_ylabel() == "validation bits per byte"
    assert max(max(line.get_ydata()) for line in axes.lines) < 10


def test_a_further_set_that_chose_the_rates_is_told():
    """It is neither the test split nor validation that claims are judged on then."""
    found = dataclasses.replace(fake.study(), metric="shifted/loss", tuned_by="shifted/loss", judged_on="test")
    assert found.basis == "judged by shifted/loss: it chose the learning rates too"
    assert dataclasses.replace(found, metric=TEST, tuned_by=VALIDATION).basis.startswith("judged on the test split, ")


@pytest.mark.parametrize("rate", [math.nan, math.inf, 0.0])
def test_learning_rates_are_numbers(rate):
    with pytest.raises(SpecError, match=r"learning_rates=.*must be different, greater than 0 and finite"):
        toy.study(learning_rates=(1e-3, rate))


def test_a_study_cannot_be_tuned_on_test():
    with pytest.raises(SpecError, match=r"metric='test/loss': must begin with .*; claims are judged on test by"):
        toy.study(metric="test/loss")


OLD = [path for path in STORED if Results.from_json(path.read_text()).judged_on == ""]


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.parent.name)
def test_results_from_before_there_was_a_test_split_still_open(path):
    found = Results.from_json(path.read_text())
    assert (found.judged_on, found.tuned_by, found.basis) == ("", "", "")
    assert found.metric == json.loads(path.read_text())["metric"]
    shown(found)
    page(found, [])


def test_an_old_report_is_rendered(tmp_path):
    smallest = min(STORED, key=lambda path: path.stat().st_size)
    assert write_report(Results.from_json(smallest.read_text()), tmp_path).exists()

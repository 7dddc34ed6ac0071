"""A claim on best learning rates: one number a tuning seed."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from experiments.study.claims.judge import judge, judge_all
from experiments.study.claims.rate_claims import HigherRate
from experiments.study.results import Arm, Cell, Results

RATES = (1e-3, 2e-3, 4e-3, 8e-3)


def results(best, tried=RATES):
    """Arm -> the best rate of each tuning seed, on parabolas."""
    cells = [
        Cell(arm, "tune", 1000 + k, rate, "finished", {"val/loss": 2 + math.log(rate / one) ** 2})
        for arm, rates in best.items()
        for k, one in enumerate(rates)
        for rate in tried
    ]
    return Results("x", "?", "test/loss", True, [Arm(arm, {}, 1e-3) for arm in best], cells, tuned_by="val/loss")


def test_it_is_the_paired_test_of_the_logarithms():
    high, low = [3.9e-3, 4.2e-3, 3.5e-3], [2.1e-3, 1.9e-3, 2.3e-3]
    verdict = judge(HigherRate("a", than="b"), results({"a": high, "b": low}))
    direct = stats.ttest_1samp(np.log(high) - np.log(low), 0)
    assert (verdict.verdict, verdict.n, verdict.metric) == ("supported", 3, "learning rate")
    assert verdict.estimate == pytest.approx(float(np.exp(np.mean(np.log(high) - np.log(low)))), rel=1e-3)
    assert (verdict.low, verdict.high) == pytest.approx(np.exp(direct.confidence_interval(0.95)), rel=1e-3)
    assert judge(HigherRate("b", than="a"), results({"a": high, "b": low})).verdict == "not supported"


def test_two_seeds_that_choose_one_rate_decide_nothing():
    assert judge(HigherRate("a", than="b"), results({"a": [2e-3, 2e-3], "b": [2e-3, 2e-3]})).verdict == "undecided"


def test_seeds_that_agree_on_a_rate_of_three_are_not_certain():
    """They have chosen the nearest of what was tried."""
    agreed = {"a": [4e-3] * 2, "b": [2.1e-3, 1.9e-3]}
    verdict = judge(HigherRate("a", than="b"), results(agreed, RATES[1:]))
    assert (verdict.verdict, verdict.estimate) == ("undecided", pytest.approx(2))
    assert verdict.low < 1 < 2 < verdict.high
    rounded = math.log(2) ** 2 / 6  # of two numbers, each to the nearest rate
    half = stats.t.ppf(0.975, 1) * math.sqrt(rounded / 2)
    assert verdict.high == pytest.approx(2 * math.exp(half))
    many = {"a": [4e-3] * 8, "b": [2e-3] * 8}
    assert judge(HigherRate("a", than="b"), results(many, RATES[1:])).verdict == "supported"
    edge = {"a": [3e-2] * 2, "b": [2e-3] * 2}  # four rates, of which the last is chosen
    assert judge(HigherRate("a", than="b"), results(edge)).errors == ("seeds",)
    assert judge(HigherRate("a", than="b"), results(edge)).p > 1e-3


def test_a_value_of_zero_elsewhere_is_no_matter():
    one = results({"a": [3.9e-3, 4.2e-3, 3.5e-3], "b": [2.1e-3, 1.9e-3, 2.3e-3]})
    zero = Cell("a", "seeds", 0, 4e-3, "finished", {"test/loss": 0.0})
    found = dataclasses.replace(one, cells=[*one.cells, zero])
    assert judge(HigherRate("a", than="b"), found) == judge(HigherRate("a", than="b"), one)


def test_without_a_sweep_it_says_so():
    one = Results("x", "?", "val/loss", True, [Arm("a", {}, 1e-3), Arm("b", {}, 1e-3)], [])
    (verdict,) = judge_all([HigherRate("a", than="b")], one)
    assert (verdict.verdict, verdict.note) == ("undecided", "learning rates were not swept")

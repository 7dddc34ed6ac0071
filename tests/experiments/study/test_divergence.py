"""Seeds that diverged, seeds that are all alike, and what neither of them can decide."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.study.claims.claims import AtLeast, AtMost, Better, Equivalent, RatioBelow
from experiments.study.claims.judge import judge
from tests.experiments.study import fake

NAN = math.nan
LOW, HIGH = [1.00, 1.01, 0.99], [1.20, 1.22, 1.19]


def word(claim, arms, **kw):
    return judge(claim, fake.results(arms, **kw)).verdict


def test_no_spread_seen_is_not_no_spread():
    """Two equal differences gave p = 0. Their variance is at least that of rounding to the metric's step."""
    verdict = judge(Better("a", "b"), fake.results({"a": [1.0, 1.1], "b": [1.2, 1.3]}))
    assert (verdict.verdict, verdict.estimate) == ("undecided", pytest.approx(0.2))
    half = math.tan(math.pi / 2 * 0.95) * math.sqrt(2 * 0.1**2 / 12 / 2)
    assert verdict.high - verdict.estimate == pytest.approx(half, rel=1e-6)
    assert "no spread over seeds was seen" in verdict.note
    ratio = RatioBelow("a", "b", fake.METRIC, 1.0, every_seed=False)
    same = judge(ratio, fake.results({"a": [1.0, 1.0], "b": [1.5, 1.5]}))
    assert same.verdict == "undecided"


def test_divergence_is_counted_beside_the_finite_seeds():
    """Of ten seeds one lost says nothing against a clear lead; many more on one side decide by themselves."""
    rng = np.random.default_rng(0)
    lead = {"a": 1.0 + 0.01 * rng.normal(size=10), "b": 1.2 + 0.01 * rng.normal(size=10)}
    once = {"a": [NAN, *lead["a"][1:]], "b": lead["b"]}
    verdict = judge(Better("a", "b"), fake.results(once))
    assert verdict.verdict == "supported"
    assert "a diverged in 1 of 10 seeds" in verdict.note
    level = {"a": 1 + 0.01 * rng.normal(size=10), "b": 1 + 0.01 * rng.normal(size=10)}
    often = {"a": level["a"], "b": [NAN] * 7 + [*level["b"][7:]]}
    assert stats.fisher_exact([[7, 3], [0, 10]], alternative="greater").pvalue < 0.0125
    assert word(Better("a", "b"), often) == "supported"
    assert word(Better("b", "a"), often) == "not supported"
    assert word(Equivalent("a", "b", 9.0), often) == "not supported"
    against = {"a": lead["a"], "b": [NAN] * 7 + [0.5, 0.51, 0.49]}
    assert word(Better("a", "b"), against) == "undecided", "where it is finite b leads, and it is seldom finite"


def test_two_tests_have_half_the_level_each():
    """With a lost seed the p of the others counts twice, beside that of the numbers of lost seeds."""
    rng = np.random.default_rng(4)
    a, b = 1.0 + 0.1 * rng.normal(size=8), 1.05 + 0.1 * rng.normal(size=8)
    finite = stats.ttest_rel(a[1:], b[1:]).pvalue
    verdict = judge(Better("a", "b"), fake.results({"a": [NAN, *a[1:]], "b": b}))
    assert verdict.p == pytest.approx(2 * finite)


def test_a_ratio_of_seeds_that_are_left_over_is_not_supported():
    """Where the arm diverges more often than what it is divided by, the ratio of the rest says nothing for it."""
    rng = np.random.default_rng(0)
    arms = {"a": [NAN] * 7 + [1.0, 1.01, 0.99], "b": 2.0 + 0.001 * rng.normal(size=10)}
    assert word(RatioBelow("a", "b", fake.METRIC, 1.0, every_seed=False), arms) == "undecided"
    fine = {"a": 1.0 + 0.01 * rng.normal(size=10), "b": arms["b"]}
    assert word(RatioBelow("a", "b", fake.METRIC, 1.0, every_seed=False), fine) == "supported"


def test_three_seeds_that_all_diverged_are_too_few():
    """3 of 3 against 0 of 3 has an exact two-sided p of 0.1, and half the level."""
    always = {"a": LOW, "b": [NAN, NAN, NAN]}
    assert word(Better("a", "b"), always) == "undecided"
    assert word(Better("b", "a"), always) == "undecided"
    eight = {"a": [1.0 + 0.001 * i for i in range(8)], "b": [NAN] * 8}
    found = judge(Better("a", "b"), fake.results(eight))
    assert (found.verdict, math.isnan(found.estimate)) == ("supported", True)
    assert word(Better("b", "a"), eight) == "not supported"
    assert word(Better("a", "b"), {"a": [NAN] * 3, "b": [NAN] * 3}) == "undecided"


def test_a_baseline_that_diverged_supports_no_ratio():
    """It was supported, with an estimate of 0."""
    lost = {"a": LOW, "b": [NAN, NAN, NAN]}
    for every in (True, False):
        verdict = judge(RatioBelow("a", "b", fake.METRIC, 2.0, every_seed=every), fake.results(lost))
        assert (verdict.verdict, math.isnan(verdict.estimate)) == ("undecided", True)
    once = judge(RatioBelow("a", "b", fake.METRIC, 2.0), fake.results({"a": LOW, "b": [NAN, 1.0, 1.0]}))
    assert (once.verdict, once.n) == ("supported", 2)
    assert word(RatioBelow("a", "b", fake.METRIC, 2.0), {"a": [1.0, NAN, 0.99], "b": LOW}) == "not supported"


def test_a_bar_in_the_mean_is_not_reached_by_a_mean_that_is_unknown():
    assert word(AtMost("a", fake.METRIC, 5.0), {"a": [1.0, NAN, 0.99]}) == "not supported"
    assert word(AtMost("a", fake.METRIC, 5.0, every_seed=False), {"a": [1.0, NAN, 0.99]}) == "undecided"
    assert word(AtMost("a", fake.METRIC, 5.0, every_seed=False), {"a": [NAN, NAN, NAN]}) == "not supported"
    assert word(AtLeast("a", fake.METRIC, 0.1), {"a": [1.0, NAN, 0.99]}, lower=False) == "not supported"

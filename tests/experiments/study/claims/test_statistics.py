"""Intervals and corrections against closed forms, and against scipy and statsmodels called directly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from experiments.study.claims import statistics


@pytest.fixture(autouse=True, scope="module")
def no_garbage_collection():
    """statsmodels, the reference, collects garbage in every correction: slow in a process that has JAX loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gc.collect", lambda *generation: 0)
        yield


def test_t_interval_in_closed_form():
    """For two values a, b the t distribution has one degree of freedom: mean -+ tan(pi/2 level) |a - b| / 2."""
    found = statistics.t_interval([1.0, 3.0], 0.9)
    half = math.tan(math.pi / 2 * 0.9)
    assert found.estimate == 2.0
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-9)


def test_intervals_of_one_value_and_of_equal_values():
    one, equal = statistics.t_interval([0.3]), statistics.t_interval([0.3, 0.3])
    assert one.estimate == 0.3
    assert math.isnan(one.low)
    assert equal.low == equal.high == pytest.approx(0.3)


def test_too_few_for_a_bootstrap_have_no_interval():
    """Below 20 values it is far too narrow: NaN, not a number that a reader would take for one."""
    x = np.random.default_rng(1).normal(size=20)
    few, enough = statistics.bootstrap_interval(x[:19]), statistics.bootstrap_interval(x)
    assert (few.estimate, math.isnan(few.low), math.isnan(few.high)) == (pytest.approx(x[:19].mean()), True, True)
    assert enough.low < enough.estimate < enough.high


def test_bootstrap_is_scipys_and_covers():
    x = np.random.default_rng(1).exponential(size=40)
    found = statistics.bootstrap_interval(x, 0.95)
    direct = stats.bootstrap((x,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert (found.low, found.high) == (direct.low, direct.high)
    assert found == statistics.bootstrap_interval(x, 0.95)
    t = statistics.t_interval(x)
    assert found.high - found.estimate > found.estimate - found.low, "an exponential's mean has a longer upper side"
    assert found.high - found.low == pytest.approx(t.high - t.low, rel=0.25)


def estimate(values):
    """The mean of independent values."""
    x = np.asarray(values, float)
    return statistics.Estimate(float(x.mean()), {"seeds": statistics.Error(float(x.var(ddof=1)) / x.size, x.size - 1)})


def test_paired_tests_are_scipys_and_statsmodels():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 7))
    above, below = estimate(a - b).inside_outside(0.0, math.inf)
    assert above == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue, rel=1e-9)
    assert below == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue, rel=1e-9)
    assert estimate(a - b).inside_outside(-math.inf, 0.0) == pytest.approx((below, above), rel=1e-9)
    inside, outside = estimate(a - b).inside_outside(-2.0, 1.5)
    assert inside == pytest.approx(ttost_paired(a, b, -2.0, 1.5)[0], rel=1e-9)
    assert outside == pytest.approx(
        min(
            stats.ttest_rel(a, b + 1.5, alternative="greater").pvalue,
            stats.ttest_rel(a, b - 2.0, alternative="less").pvalue,
        )
    )
    low, high = stats.ttest_rel(a, b).confidence_interval(0.9)
    interval = estimate(a - b).interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9)


def test_errors_add_as_in_welchs_test():
    """Two independent samples are two sources of error: Satterthwaite's degrees of freedom are Welch's."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=5), 3 * rng.normal(size=9)
    errors = {name: next(iter(estimate(x).errors.values())) for name, x in (("a", a), ("b", b))}
    both = statistics.Estimate(float(a.mean() - b.mean()), errors)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert both.df == pytest.approx(welch.df, rel=1e-9)
    assert 2 * min(both.inside_outside(0.0, math.inf)) == pytest.approx(welch.pvalue, rel=1e-9)


def test_the_step_of_a_metric():
    """What all values are multiples of; a continuous metric has that of float32."""
    assert statistics.resolution([0.91, 0.935, 0.94]) == pytest.approx(0.005)
    assert statistics.resolution([1 / 3, 2 / 3, 1.0, math.nan]) == pytest.approx(1 / 3)
    assert statistics.resolution([1.0, 1.1, 1.2, 1.3]) == pytest.approx(0.1)
    assert statistics.resolution([0.3, 0.3]) == pytest.approx(0.3 * 2**-23)
    noise = np.random.default_rng(0).normal(2, 0.1, size=(200, 6))
    assert sum(statistics.resolution(row) > 1e-3 for row in noise) == 0


def test_more_often_is_fishers():
    assert statistics.more_often(3, 3, 0, 3) == pytest.approx(1 / 20)
    assert statistics.more_often(1, 10, 0, 10) == pytest.approx(0.5)
    assert statistics.more_often(0, 10, 4, 10) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_steps_decide_what_holm_decides(p):
    steps = statistics.holm_steps({index: [value] for index, value in enumerate(p)}, 0.05)
    corrected = multipletests(p, method="holm")[1]
    for index, value in enumerate(p):
        if abs(corrected[index] - 0.05) > 1e-9:
            assert (value <= steps[index].alpha) == (corrected[index] <= 0.05)
        assert steps[index].alpha * steps[index].factor == pytest.approx(0.05)


def test_several_questions_on_one_comparison_cost_what_one_does():
    one = statistics.holm_steps({"a": [0.04], "b": [0.5]}, 0.05)
    several = statistics.holm_steps({"a": [0.04, 1e-9, 0.2], "b": [0.5]}, 0.05)
    assert one["a"] == several["a"] == statistics.Step(0.025, 2)
    left = statistics.holm_steps({"a": [0.01, 1e-9], "b": [0.04]}, 0.05)
    assert left == {"a": statistics.Step(0.025, 2), "b": statistics.Step(0.05, 1)}
    open_still = statistics.holm_steps({"a": [0.4, 1e-9], "b": [0.04]}, 0.05)
    assert open_still["b"].alpha == 0.025, "a question on a is open, so that a is still at stake"

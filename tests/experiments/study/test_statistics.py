"""Intervals and corrections against closed forms, and against scipy and statsmodels called directly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from experiments.study import statistics

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.fixture(autouse=True, scope="module")
def no_garbage_collection():
    """statsmodels collects garbage in every correction, which is slow in a process that has JAX loaded."""
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
    one, equal = statistics.t_interval([0.3]), statistics.t_interval([0.1 + 0.2, 0.3])
    assert one.estimate == 0.3
    assert math.isnan(one.low)
    assert equal.low == equal.high == pytest.approx(0.3)


def test_bootstrap_is_scipys_and_covers():
    x = np.random.default_rng(1).exponential(size=40)
    found = statistics.bootstrap_interval(x, 0.95)
    direct = stats.bootstrap((x,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert (found.low, found.high) == (direct.low, direct.high)
    assert found == statistics.bootstrap_interval(x, 0.95)
    t = statistics.t_interval(x)
    assert found.high - found.estimate > found.estimate - found.low, "an exponential's mean has a longer upper side"
    assert found.high - found.low == pytest.approx(t.high - t.low, rel=0.25)


def test_paired_tests_are_scipys_and_statsmodels():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 7))
    above, below = statistics.one_sided(a - b, 0.0)
    assert above == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue, rel=1e-9)
    assert below == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue, rel=1e-9)
    inside, outside = statistics.inside_outside(a - b, -2.0, 1.5)
    assert inside == pytest.approx(ttost_paired(a, b, -2.0, 1.5)[0], rel=1e-9)
    assert outside == pytest.approx(
        min(
            stats.ttest_rel(a, b + 1.5, alternative="greater").pvalue,
            stats.ttest_rel(a, b - 2.0, alternative="less").pvalue,
        )
    )


def test_without_spread_the_bound_decides():
    assert statistics.inside_outside([0.2, 0.2], 0.1, math.inf) == (0.0, 1.0)
    assert statistics.inside_outside([0.1, 0.1], 0.1, math.inf) == (1.0, 1.0)
    assert statistics.inside_outside([0.2, 0.2], -0.1, 0.1) == (1.0, 0.0)


def test_sign_flips_are_counted_exactly():
    assert statistics.sign_flip([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    assert statistics.sign_flip([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 32)
    assert statistics.sign_flip([1.0, -1.0]) == pytest.approx(1.0)


@given(probabilities)
def test_holm_is_monotone_and_statsmodels(p):
    corrected = statistics.holm(p)
    assert np.all(corrected >= np.asarray(p))
    assert np.all(np.diff(corrected[np.argsort(p, kind="stable")]) >= 0)
    assert np.array_equal(corrected, multipletests(p, method="holm")[1])
    with_gaps = statistics.holm([math.nan, *p, math.nan])
    assert np.array_equal(with_gaps[1:-1], corrected)


@given(probabilities)
def test_levels_reject_where_holm_rejects(p):
    """An interval at level 1 - a excludes a bound where p < a."""
    alphas = 1 - statistics.holm_levels(p, 0.95)
    corrected = statistics.holm(p)
    clear = np.abs(corrected - 0.05) > 1e-9
    assert np.array_equal((np.asarray(p) <= alphas + 1e-12)[clear], (corrected <= 0.05)[clear])
    assert alphas.min() >= 0.05 / len(p) - 1e-12
    assert alphas.max() <= 0.05 + 1e-12

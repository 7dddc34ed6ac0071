"""Seeds that are added until a study is decided."""

import numpy as np
import pytest
from scipy import stats

from arch.spec import SpecError
from experiments.study.claims.until import Until


def test_looks():
    assert Until("primary", most=6).looks == (3, 4, 5, 6)
    assert Until("primary", most=12, first=4, step=3).looks == (4, 7, 10, 12)
    assert Until("all", most=3).looks == (3,)
    assert Until("all", most=3).alpha() == 0.05


def test_two_looks_have_pococks_level():
    """Two equal looks at many seeds: nominal 0.0294 (Pocock 1977)."""
    assert Until("primary", most=80, first=40, step=40).alpha() == pytest.approx(0.0294, abs=0.0008)


def test_looking_after_each_seed_errs_in_five_percent_of_studies():
    rule, rng, wrong, naive = Until("primary", most=8), np.random.default_rng(5), 0, 0
    for _ in range(1500):
        values = rng.normal(size=8)
        p = min(stats.ttest_1samp(values[:count], 0).pvalue for count in rule.looks)
        wrong, naive = wrong + (p <= rule.alpha()), naive + (p <= 0.05)
    assert wrong <= stats.binom(1500, 0.05).ppf(0.999)
    assert naive / 1500 > 0.1, "at 5 % a look"


@pytest.mark.parametrize("fields", [{"most": 2}, {"first": 1}, {"step": 0}, {"decided": "some"}])
def test_rules_that_mean_nothing_are_refused(fields):
    with pytest.raises(SpecError, match=next(iter(fields))):
        Until(**{"decided": "primary", **fields})

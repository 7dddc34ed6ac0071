"""Studies of two equal arms, again and again: how often the engine's own functions decide between them.

`experiments/same_again.py` is one such study with training; here 200 are drawn. `bench/verdicts.py` has more kinds, and
enough studies to tell 4 % from 5 %.
"""

import numpy as np
import pytest

from bench import verdicts as bench


@pytest.mark.parametrize("rates", [3, 5])
def test_equal_arms_with_rates_of_their_own_are_seldom_decided(rates):
    """Each arm's rate is chosen on three noisy seeds, and its error is in all that are judged."""
    rng, studies = np.random.default_rng(1), 200
    assert sum(bench.tuned(rng, 8, rates) for _ in range(studies)) <= 0.05 * studies


def test_without_the_error_of_rates_they_would_be(monkeypatch):
    """What the test above is there for: seeds alone do not show a wrong rate."""
    monkeypatch.setattr("experiments.study.claims.spread.regrets", lambda results: {})
    rng, studies = np.random.default_rng(1), 200
    assert sum(bench.tuned(rng, 8, 3) for _ in range(studies)) > 0.06 * studies


@pytest.mark.parametrize("row", ["normal", "skewed", "bad seeds", "divergence", "rows", "accuracy"])
def test_equal_arms_are_seldom_decided_whatever_the_noise(row):
    rng, studies = np.random.default_rng(1), 100
    assert sum(bench.FALSE[row](rng, 5) for _ in range(studies)) <= 0.1 * studies


def test_effects_are_found():
    """Two standard deviations of a paired difference at three seeds: four arms find it, where two would seldom."""
    rng, studies = np.random.default_rng(2), 100
    assert sum(bench.power(rng, 3, 4, 2.0) for _ in range(studies)) > 0.6 * studies
    assert sum(bench.power(rng, 3, 2, 2.0) for _ in range(studies)) < 0.6 * studies

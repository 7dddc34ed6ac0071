"""What is told before a study is trained: the smallest effect that it can decide."""

import numpy as np
import pytest
from scipy import stats

from experiments.study.claims import power, spread
from experiments.study.claims.claims import AtMost, Best, Better, NoWorse
from experiments.study.claims.until import Until
from tests.experiments.study import fake, toy


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (3, 2), (8, 3)])
def test_four_of_five_studies_decide_it(seeds, comparisons):
    """Against draws: paired t-tests of two arms at level 0.05 / comparisons."""
    effect, rng = power.smallest(seeds, comparisons, arms=2), np.random.default_rng(0)
    p = stats.ttest_1samp(effect + rng.normal(size=(4000, seeds)), 0, axis=1).pvalue
    assert np.mean(p <= 0.05 / comparisons) == pytest.approx(0.8, abs=0.025)


def test_three_seeds_are_told_to_be_few():
    assert power.smallest(3, 1, 2) == pytest.approx(3.26, abs=0.01)
    assert power.smallest(3, 2, 2) == pytest.approx(4.62, abs=0.01)
    assert power.smallest(3, 1, 4) < 2.0, "four arms say more of the noise"


def test_of_two_seeds_noise_is_not_taken_together():
    """As `spread` does: its tests of equal noise object to two seeds whatever they are."""
    (line,) = power.lines(toy.study(seeds=2))
    assert f"{power.smallest(2, 1, 2):.2g} sd" in line
    rng, pooled = np.random.default_rng(0), 0
    for _ in range(20):
        values = {f"a{i}": rng.normal(size=2) for i in range(5)}
        pooled += (
            spread.Spreads(fake.results(values)).estimate(Better("a0", "a1").samples(fake.results(values))[0]).df > 1
        )
    assert pooled == 0


def test_comparisons_are_counted_once():
    claims = (
        AtMost("depth=1", "val/loss", 9.0),
        Better("depth=2", than="depth=1"),
        NoWorse("depth=1", than="depth=2", margin=0.1),
        Better("depth=2", than="depth=1", metric="val/loss"),
        Best("depth=1"),
    )
    assert power.comparisons(toy.study(claims=claims)) == (1, 1)
    assert power.comparisons(toy.study(claims=())) == (0, 0)


def test_what_is_told():
    (line,) = power.lines(toy.study(seeds=3))
    assert line == "3 seeds decide the primary claim in 4 of 5 studies if its effect is 3.3 sd of a paired difference"
    (line,) = power.lines(toy.study(seeds=Until("primary", most=6)))
    assert line.startswith("6 seeds at most decide")
    assert list(power.lines(toy.study(seeds=1))) == []
    assert list(power.in_units(toy.study(), fake.study().cells)) == [], "one seed a rate says nothing of noise"

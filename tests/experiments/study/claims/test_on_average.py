"""A claim on the mean of several comparisons: one number a seed."""

import math

import numpy as np
import pytest
from scipy import stats

from arch.spec import SpecError
from experiments.study.claims.claims import AtLeast, Better, Monotone, NoWorse, RatioBelow
from experiments.study.claims.judge import judge, judge_all
from experiments.study.claims.on_average import OnAverage
from tests.experiments.study import fake

ARMS = {"a": [1.0, 1.3, 1.1], "b": [1.1, 1.2, 1.2], "c": [2.0, 2.5, 2.2], "d": [2.3, 2.7, 2.9]}
PAIRS = OnAverage((Better("a", "b"), Better("c", "d")))


def test_the_mean_is_taken_within_a_seed_and_then_tested():
    verdict = judge(PAIRS, fake.results(ARMS, data={"a": "x", "b": "x", "c": "y", "d": "y"}))
    a, b, c, d = map(np.array, ARMS.values())
    direct = stats.ttest_1samp(((b - a) + (d - c)) / 2, 0)
    assert verdict.estimate == pytest.approx(np.mean(b - a + d - c) / 2)
    assert (verdict.low, verdict.high) == pytest.approx(tuple(direct.confidence_interval(0.95)))
    assert (verdict.n, verdict.p) == (3, pytest.approx(direct.pvalue))
    assert verdict.claim.startswith("on average over 2 comparisons: a is better than b in val/bits_per_byte")


def test_it_can_decide_what_its_parts_cannot():
    """Noise of opposite signs in the two pairs."""
    arms = {"a": [1.0, 0.8, 1.2], "b": [1.1] * 3, "c": [1.0, 1.2, 0.8], "d": [1.1, 1.11, 1.1]}
    results = fake.results(arms)
    assert [judge(part, results).verdict for part in PAIRS.parts] == ["undecided"] * 2
    assert judge(PAIRS, results).verdict == "supported"


def test_parts_of_unlike_lengths_are_refused():
    with pytest.raises(SpecError, match="must be claims of one kind and length"):
        OnAverage((Monotone(("a", "b")), Monotone(("a", "b", "c"))))


def test_ratios_are_averaged_as_logarithms():
    arms = {name: np.exp(values) for name, values in ARMS.items()}
    pairs = (RatioBelow(a, b, "val/bits_per_byte", 0.9, every_seed=False) for a, b in ("ab", "cd"))
    verdict = judge(OnAverage(tuple(pairs)), fake.results(arms))
    a, b, c, d = map(np.array, ARMS.values())
    assert verdict.estimate == pytest.approx(np.exp(np.mean((a - b) + (c - d)) / 2))
    assert verdict.wanted == pytest.approx((0.0, 0.9))


def test_an_average_of_bars_is_a_bar():
    """It would else be taken for the primary claim, and what stands behind it for undecided."""
    bars = OnAverage((RatioBelow("a", "b", "val/bits_per_byte", 0.5), RatioBelow("c", "d", "val/bits_per_byte", 0.5)))
    assert (bars.is_bar, PAIRS.is_bar) == (True, False)
    verdicts = judge_all([bars, PAIRS], fake.results(ARMS))
    assert [verdict.role for verdict in verdicts] == ["bar", "primary"]


def test_divergence():
    """A seed counts as lost on the side where any of the comparisons lost it; the others are tested."""
    lost = judge(PAIRS, fake.results({**ARMS, "c": [math.nan, 2.5, 2.2]}))
    assert (lost.verdict, lost.n) == ("undecided", 3)
    assert "c diverged in 1 of 3 seeds" in lost.note
    rng = np.random.default_rng(0)
    eight = {arm: by + 0.01 * rng.normal(size=8) for arm, by in {"a": 1.0, "b": 1.2, "c": 2.0, "d": 2.3}.items()}
    assert judge(PAIRS, fake.results({**eight, "c": [math.nan, *eight["c"][1:]]})).verdict == "supported"
    never = {**eight, "a": [math.nan] * 4 + [*eight["a"][4:]], "c": [*eight["c"][:4]] + [math.nan] * 4}
    assert judge(PAIRS, fake.results(never)).verdict == "not supported"


@pytest.mark.parametrize(
    "parts",
    [
        (Better("a", "b"),),
        (Better("a", "b"), Better("c", "d", margin=0.1)),
        (Better("a", "b"), NoWorse("c", "d", 0.0)),
        (Better("a", "b"), Better("c", "d", metric="val/accuracy")),
        (NoWorse("a", "b", 0.1), AtLeast("c", "val/accuracy", 0.1)),
        (Better("a", "b", lower_is_better=True), Better("c", "d", lower_is_better=False)),
        (AtLeast("a", "val/accuracy", 0.1), AtLeast("c", "val/accuracy", 0.1, every_seed=False)),
    ],
)
def test_parts_are_of_one_kind(parts):
    with pytest.raises(SpecError, match="parts"):
        OnAverage(parts)

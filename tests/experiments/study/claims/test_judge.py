"""Several claims of one study: what is counted, what goes first, and what stands below its baseline."""

import numpy as np

from experiments.study.claims.claims import AtMost, Better, Equivalent, NoWorse
from experiments.study.claims.judge import judge, judge_all
from experiments.study.claims.on_average import OnAverage
from tests.experiments.study import fake

LOW, HIGH = [1.00, 1.01, 0.99], [1.20, 1.22, 1.19]


def test_claims_on_one_comparison_share_its_interval():
    """A second claim on the same difference, from either side, costs nothing."""
    arms = {"a": [1.0, 1.03, 0.99, 1.01], "b": [1.05, 1.04, 1.06, 1.05]}
    found = fake.results(arms)
    alone = judge(Better("a", "b"), found)
    assert (alone.verdict, alone.role) == ("supported", "primary")
    crowd = [Better("a", "b"), *[NoWorse("b", "a", 0.001 * index) for index in range(1, 9)], Equivalent("a", "b", 0.1)]
    together = judge_all(crowd, found)
    assert together[0] == alone
    assert {verdict.level for verdict in together} == {0.95}


def test_the_primary_claim_goes_first_and_the_others_behind_it():
    rng = np.random.default_rng(0)
    shift = {"a": 0.0, "b": 0.05, "c": 1.0, "d": 1.0}
    values = {arm: by + 0.02 * rng.normal(size=6) for arm, by in shift.items()}
    found = fake.results(values)
    clear, doubtful, small = Better("a", "c"), Better("a", "b", margin=0.04), Better("a", "b")
    first, *rest = judge_all([clear, small, Better("c", "d")], found)
    assert (first.role, first.level) == ("primary", 0.95)
    assert [v.role for v in rest] == ["secondary"] * 2
    assert {v.level for v in rest} == {0.975}, "two others, which hold together"
    assert "corrected for 2 comparisons" in rest[0].note
    shut = judge_all([doubtful, clear, small], found)
    assert [v.verdict for v in shut] == ["undecided", "undecided", "supported"], (
        "the third is on the primary comparison"
    )
    assert "stands behind the primary claim, which is undecided" in shut[1].note
    together = judge_all([doubtful, clear], found, primary=False)
    assert together[1].verdict == "supported"
    assert {v.role for v in together} == {"secondary"}


def test_what_holm_decides_behind_others_says_why_its_interval_does_not():
    """The easiest of two has half the level, the next all of it; both intervals have half."""
    noise = np.array([-0.02, 0.01, 0.0, 0.02, -0.01, 0.0])
    other = np.array([0.01, -0.02, 0.02, 0.0, 0.0, -0.01])
    arms = {"a": noise, "b": 5.0 + other, "c": 9.0 - noise, "d": 9.018 + other}
    first, easy, next_ = judge_all([Better("a", "b"), Better("b", "c"), Better("c", "d")], fake.results(arms))
    assert [v.verdict for v in (first, easy, next_)] == ["supported"] * 3
    assert next_.low < 0 < next_.high
    assert "decided in its turn (Holm)" in next_.note
    assert "Holm" not in first.note + easy.note


def test_what_divergence_decides_is_not_put_down_to_holm():
    """The finite seeds say nothing; that all of the others diverged says it."""
    rng = np.random.default_rng(0)
    arms = {name: by + 0.1 * rng.normal(size=12) for name, by in {"a": 0.0, "b": 9.0, "c": 20.0, "d": 20.0}.items()}
    arms["d"] = [*arms["d"][:3], *[np.nan] * 9]
    _, lost = judge_all([Better("a", "b"), Better("c", "d")], fake.results(arms))
    assert lost.verdict == "supported"
    assert lost.low < 0 < lost.high
    assert "Holm" not in lost.note


def test_bars_are_not_counted_and_are_not_primary():
    arms = {"a": [1.0, 1.03, 0.99, 1.01], "b": [1.05, 1.04, 1.06, 1.05]}
    bars = [AtMost("a", fake.METRIC, 5.0 + index) for index in range(8)]
    verdicts = judge_all([*bars, Better("a", "b")], fake.results(arms))
    assert [v.role for v in verdicts] == ["bar"] * 8 + ["primary"]
    assert verdicts[-1].p == judge(Better("a", "b"), fake.results(arms)).p


def test_below_the_baseline_nothing_is_concluded():
    """No arm of the claim is better than what a model has to beat; one that is suffices."""
    bars = [{"data": "", "name": "bigram", "bar": True, "values": {fake.METRIC: 1.1}}]
    arms = {"a": LOW, "b": HIGH, "c": [1.3, 1.31, 1.29]}
    found = fake.results(arms, baselines=bars)
    assert judge(Better("a", "b"), found).verdict == "supported"
    below = judge(Better("b", "c"), found)
    assert below.verdict == "undecided"
    assert "no conclusion: no arm beats the baseline: bigram (1.1)" in below.note
    assert judge(Better("b", "c"), fake.results(arms)).verdict == "supported"
    assert judge(AtMost("c", fake.METRIC, 2.0), found).verdict == "supported", "a bar is about the arm alone"
    other = [{**bars[0], "data": "elsewhere"}]
    assert judge(Better("b", "c"), fake.results(arms, baselines=other)).verdict == "supported"


def test_a_baseline_is_beaten_in_the_direction_of_the_claim():
    """Of a metric whose name tells none: 1.1 is to be passed from below."""
    bars = [{"data": "", "name": "guess", "bar": True, "values": {"suite/recall": 1.1}}]
    arms = {"a": {fake.METRIC: LOW, "suite/recall": HIGH}, "b": {fake.METRIC: LOW, "suite/recall": LOW}}
    claim = Better("a", "b", metric="suite/recall", lower_is_better=False)
    higher = {**arms, "a": {fake.METRIC: LOW, "suite/recall": [1.3, 1.31, 1.29]}}
    above = judge(claim, fake.results(higher, baselines=bars))
    assert "no conclusion" not in above.note
    assert judge(OnAverage((claim, claim)), fake.results(higher, baselines=bars)).note == above.note
    bars[0]["values"]["suite/recall"] = 5.0
    assert "no arm beats the baseline: guess (5)" in judge(claim, fake.results(arms, baselines=bars)).note

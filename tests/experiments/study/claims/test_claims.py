"""Verdicts: what they say of known numbers, how often they err on noise, and what must not change them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from arch.spec import SpecError, UserError
from experiments.study import results as plain
from experiments.study.claims.claims import (
    AtLeast,
    AtMost,
    Best,
    Better,
    Equivalent,
    Monotone,
    NoWorse,
    RatioBelow,
    Verdict,
    metric_values,
)
from experiments.study.claims.judge import judge, judge_all
from tests.experiments.study import fake

NAN, INF = math.nan, math.inf
LOW, HIGH = [1.00, 1.01, 0.99], [1.20, 1.22, 1.19]


def word(claim, arms, **kw):
    return judge(claim, fake.results(arms, **kw)).verdict


def test_better_is_the_paired_t_interval():
    verdict = judge(Better("a", "b"), fake.results({"a": LOW, "b": HIGH}))
    direct = stats.ttest_rel(HIGH, LOW)
    assert verdict.verdict == "supported"
    assert verdict.estimate == pytest.approx(np.mean(HIGH) - np.mean(LOW))
    assert (verdict.low, verdict.high) == pytest.approx(tuple(direct.confidence_interval(0.95)))
    assert verdict.p == pytest.approx(direct.pvalue)
    assert (verdict.n, verdict.wanted) == (3, (0.0, INF))
    assert verdict.claim == "a is better than b in val/bits_per_byte (lower is better)"


def test_three_words():
    arms = {"a": LOW, "b": HIGH, "c": [1.02, 0.98, 1.00]}
    assert word(Better("a", "b"), arms) == "supported"
    assert word(Better("b", "a"), arms) == "not supported"
    assert word(Better("a", "c"), arms) == "undecided"
    assert word(Better("a", "b", margin=0.5), arms) == "not supported"
    assert word(Better("b", "a"), arms, lower=False) == "supported"


def test_margins_of_no_worse_and_equivalent():
    arms = {"a": LOW, "b": [1.01, 1.01, 1.00]}
    assert word(NoWorse("b", "a", 0.05), arms) == "supported"
    assert word(NoWorse("b", "a", 0.001), arms) == "undecided"
    assert word(NoWorse("b", "a", 0.05), {"a": LOW, "b": HIGH}) == "not supported"
    assert word(NoWorse("a", "b", 0.05), {"a": LOW, "b": HIGH}) == "supported"
    assert word(Equivalent("a", "b", 0.05), arms) == "supported"
    assert word(Equivalent("a", "b", 0.01), arms) == "undecided"
    assert word(Equivalent("a", "b", 0.05), {"a": LOW, "b": HIGH}) == "not supported"


def test_identical_arms_are_equivalent_and_none_is_better():
    arms = {"a": LOW, "b": LOW}
    assert word(Better("a", "b"), arms) == "undecided"
    assert word(NoWorse("a", "b", 0.02), arms) == "supported"
    assert word(Equivalent("a", "b", 0.02), arms) == "supported"
    assert word(NoWorse("a", "b", 0.001), arms) == "undecided", "the values have steps of 0.01"


def test_best_and_monotone_need_every_comparison():
    arms = {"a": LOW, "b": HIGH, "c": [1.5, 1.52, 1.49]}
    assert word(Best("a"), arms) == "supported"
    assert word(Best("b"), arms) == "not supported"
    assert word(Best("a"), {**arms, "d": [0.99, 1.01, 1.0]}) == "undecided"
    assert word(Best("a"), {"a": LOW}) == "undecided"
    assert word(Monotone(("c", "b", "a")), arms) == "supported"
    assert word(Monotone(("c", "a", "b")), arms) == "not supported"
    best = judge(Best("a"), fake.results(arms))
    assert best.effect == "improvement of a over b in val/bits_per_byte", "the closest rival is shown"
    assert "corrected for 2 comparisons" in best.note


def test_bars_and_ratios():
    arms = {
        "lns": {"val/accuracy": [0.86, 0.90, 0.88], "diagnostics/v[-1]": [0.1, 0.2, 0.3]},
        "pre": {"val/accuracy": [0.1, 0.2, 0.15], "diagnostics/v[-1]": [1.0, 1.0, 1.0]},
    }
    assert word(AtLeast("lns", "val/accuracy", 0.85), arms) == "supported"
    assert word(AtLeast("lns", "val/accuracy", 0.87), arms) == "not supported"
    assert word(AtLeast("lns", "val/accuracy", 0.87, every_seed=False), arms) == "undecided"
    assert word(AtMost("pre", "val/accuracy", 0.2), arms) == "supported"
    assert word(AtMost("pre", "val/accuracy", 0.5, every_seed=False), arms) == "supported"
    ratio = judge(RatioBelow("lns", "pre", "diagnostics/v[-1]", 0.35), fake.results(arms))
    assert ratio.verdict == "supported"
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((0.006 ** (1 / 3), 0.1, 0.3))
    assert math.isnan(ratio.p)
    assert word(RatioBelow("lns", "pre", "diagnostics/v[-1]", 0.25), arms) == "not supported"
    assert word(RatioBelow("lns", "pre", "diagnostics/v[-1]", 0.25, every_seed=False), arms) == "undecided"
    assert word(RatioBelow("lns", "pre", "diagnostics/v[-1]", 2.0, every_seed=False), arms) == "supported"


def test_direction_follows_the_metric():
    arms = {"a": {fake.METRIC: LOW, "val/accuracy": LOW}, "b": {fake.METRIC: HIGH, "val/accuracy": HIGH}}
    assert word(Better("a", "b"), arms) == "supported"
    assert word(Better("a", "b", metric="val/accuracy"), arms) == "not supported"
    assert word(Better("a", "b", metric="val/accuracy", lower_is_better=True), arms) == "supported"


def test_a_bar_is_no_test():
    verdict = judge(AtMost("a", fake.METRIC, 5.0), fake.results({"a": LOW}))
    assert verdict.role == "bar"
    assert "a bar, not a test: 3 of 3 seeds pass" in verdict.note
    assert math.isnan(verdict.p)


def test_a_direction_that_is_not_known_is_refused():
    arms = {"a": {fake.METRIC: LOW, "val/wobble": LOW}, "b": {fake.METRIC: HIGH, "val/wobble": HIGH}}
    with pytest.raises(UserError, match=r"val/wobble: whether lower is better .* give lower_is_better"):
        word(Better("a", "b", metric="val/wobble"), arms)
    assert word(Better("a", "b", metric="val/wobble", lower_is_better=False), arms) == "not supported"


def test_too_little_to_judge_by_is_undecided_and_says_why():
    one = {"a": [1.0], "b": [2.0]}
    for claim in (Better("a", "b"), NoWorse("a", "b", 1.0), AtMost("a", fake.METRIC, 5.0), Best("a")):
        verdict = judge(claim, fake.results(one))
        assert verdict.verdict == "undecided"
        assert "two seeds" in verdict.note
    absent = judge(Better("a", "x"), fake.results({"a": LOW}))
    assert (absent.verdict, absent.note) == ("undecided", "there is no arm x")
    unmeasured = judge(AtMost("a", "val/f1", 1.0), fake.results({"a": LOW}))
    assert "no seed of a has val/f1; measured were val/bits_per_byte" in unmeasured.note
    negative = judge(RatioBelow("a", "b", fake.METRIC, 1.0), fake.results({"a": LOW, "b": [-1.0, 1.0, 1.0]}))
    assert "not all values are positive" in negative.note


def test_only_shared_seeds_count():
    found = fake.results({"a": LOW, "b": HIGH})
    fewer = plain.Results(**{**vars(found), "cells": found.cells[:-1]})
    verdict = judge(Better("a", "b"), fewer)
    assert verdict.n == 2
    assert "2 seeds are shared" in verdict.note


def test_diagnostics_as_metrics():
    cell = plain.Cell("a", "seeds", 0, 1e-3, "finished", {}, (), {"rms": [1.0, 2.0, 6.0]})
    found = plain.Results("x", "?", fake.METRIC, True, [plain.Arm("a", {}, 1e-3)], [cell])
    expected = {"": 3.0, "[0]": 1.0, "[-1]": 6.0, "[1->-1]": 4.0}
    for layers, value in expected.items():
        assert metric_values(found, "a", f"diagnostics/rms{layers}") == {0: value}
    assert metric_values(found, "a", "diagnostics/rms[7]") == {}
    assert metric_values(found, "a", "diagnostics/other") == {}


def test_the_sweep_does_not_count():
    found = fake.results({"a": LOW})
    tuned = plain.Cell("a", "tune", 7, 1e-2, "finished", {fake.METRIC: 0.5})
    assert metric_values(plain.Results(**{**vars(found), "cells": [*found.cells, tuned]}), "a") == dict(enumerate(LOW))


@pytest.mark.parametrize(
    "make", [lambda: NoWorse("a", "b", -0.1), lambda: Equivalent("a", "b", 0.0), lambda: Monotone(("a",))]
)
def test_margins_that_mean_nothing_are_refused(make):
    with pytest.raises(SpecError):
        make()


def test_verdicts_survive_the_results_file():
    arms = {"a": [1.0, NAN, 0.99], "b": HIGH}
    found = fake.results(arms)
    verdicts = judge_all([Better("a", "b"), Equivalent("a", "b", 1.0), AtMost("b", fake.METRIC, 3.0)], found)
    kept = plain.Results(**{**vars(found), "verdicts": [verdict.plain() for verdict in verdicts]})
    back = plain.Results.from_json(json.dumps(json.loads(kept.to_json())))
    again = tuple(Verdict.from_plain(fields) for fields in back.verdicts)
    assert repr(again) == repr(verdicts)


def test_noise_is_seldom_decided():
    """Five arms without a difference, four claims: any decision is an error, and occurs in at most 5 % of studies."""
    rng, wrong, studies = np.random.default_rng(0), 0, 200
    for _ in range(studies):
        values = rng.normal(size=(5, 4)) + rng.normal(size=4)
        found = fake.results({str(index): row for index, row in enumerate(values)})
        claims = [Better("0", str(index)) for index in range(1, 5)]
        wrong += any(verdict.verdict != "undecided" for verdict in judge_all(claims, found))
    assert wrong <= stats.binom(studies, 0.05).ppf(0.999)


def test_one_claim_errs_at_its_level_and_at_the_margin():
    rng, studies = np.random.default_rng(1), 300
    words = {"supported": 0, "not supported": 0, "undecided": 0}
    equivalent = 0
    for _ in range(studies):
        found = fake.results({"a": rng.normal(-0.5, 1, size=5), "b": rng.normal(0, 1, size=5)})
        words[judge(Better("a", "b", margin=0.5), found).verdict] += 1
        equivalent += judge(Equivalent("a", "b", margin=0.5), found).verdict == "supported"
    assert stats.binomtest(words["supported"], studies, 0.025).pvalue > 1e-3
    assert stats.binomtest(words["not supported"], studies, 0.025).pvalue > 1e-3
    assert equivalent <= stats.binom(studies, 0.025).ppf(0.999)


def test_pairing_gives_power():
    """A difference of half the spread over seeds is found if seeds share that spread."""
    rng, studies, found = np.random.default_rng(2), 100, 0
    for _ in range(studies):
        shared = rng.normal(0, 1, size=4)
        arms = {"a": shared + rng.normal(0, 0.1, size=4), "b": shared + 0.5 + rng.normal(0, 0.1, size=4)}
        found += word(Better("a", "b"), arms) == "supported"
    assert found >= 90


finite = st.floats(-10, 10).map(lambda value: round(value, 3))
pairs = st.lists(st.tuples(finite, finite), min_size=2, max_size=6)


@settings(deadline=None)
@given(pairs, st.permutations(range(6)))
def test_the_order_of_seeds_does_not_matter(values, order):
    order = [index for index in order if index < len(values)]
    a, b = zip(*values, strict=True)
    one = judge(Better("a", "b"), fake.results({"a": a, "b": b}))
    other = judge(Better("a", "b"), fake.results({"a": [a[i] for i in order], "b": [b[i] for i in order]}))
    assert one.verdict == other.verdict
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(pairs, st.sampled_from([0.25, 2.0, 1024.0]))
def test_units_and_sides_do_not_matter(values, scale):
    a, b = map(np.asarray, zip(*values, strict=True))
    one = judge(NoWorse("a", "b", 0.5), fake.results({"a": a, "b": b}))
    scaled = judge(NoWorse("a", "b", 0.5 * scale), fake.results({"a": a * scale, "b": b * scale}))
    mirrored = judge(NoWorse("a", "b", 0.5), fake.results({"a": -a, "b": -b}, lower=False))
    assert one.verdict == scaled.verdict == mirrored.verdict
    assert one.p == pytest.approx(scaled.p, rel=1e-6, abs=1e-12)
    assert one.low == mirrored.low


@settings(deadline=None)
@given(pairs)
def test_the_verdict_can_be_read_off_the_interval(values):
    a, b = zip(*values, strict=True)
    verdict = judge(Equivalent("a", "b", 1.0), fake.results({"a": a, "b": b}))
    if verdict.verdict == "supported":
        assert verdict.low >= -1.0 - 1e-9
        assert verdict.high <= 1.0 + 1e-9
    elif verdict.verdict == "not supported":
        assert verdict.low >= 1.0 - 1e-9 or verdict.high <= -1.0 + 1e-9
    else:
        assert verdict.low <= 1.0 + 1e-9
        assert verdict.high >= -1.0 - 1e-9


@pytest.mark.parametrize("bar", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [AtLeast, AtMost])
def test_a_bar_that_nothing_reaches_is_refused(kind, bar):
    with pytest.raises(SpecError, match=r"bar=.*must be a number that a metric can reach"):
        kind("a", "val/loss", bar)

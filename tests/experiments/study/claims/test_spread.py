"""How sure a mean is: the noise of all arms together, rows, learning rates, rounding."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.study.claims.claims import Better, Equivalent, RatioBelow
from experiments.study.claims.judge import judge
from experiments.study.claims.spread import Spreads
from experiments.study.results import Cell
from tests.experiments.study import fake


def estimate(found, claim):
    (sample,) = claim.samples(found)
    return Spreads(found).estimate(sample)


def noisy(arms, seeds, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return {f"a{i}": 10 + rng.normal(size=seeds) + 0.0 for i in range(arms)}


def test_the_noise_of_all_arms_is_the_residual_of_a_two_way_analysis():
    values = noisy(4, 5)
    table = np.array(list(values.values()))
    effects = table.mean(1, keepdims=True) + table.mean(0) - table.mean()
    variance = np.sum((table - effects) ** 2) / (3 * 4)
    found = estimate(fake.results(values), Better("a0", "a1"))
    assert found.errors["seeds"].df == 12
    assert found.standard_error**2 == pytest.approx(2 * variance / 5)
    assert found.value == pytest.approx(table[1].mean() - table[0].mean())


def test_two_arms_have_their_paired_difference():
    values = noisy(2, 6)
    difference = values["a0"] - values["a1"]
    found = estimate(fake.results(values), Better("a0", "a1"))
    assert (found.df, found.standard_error) == (5, pytest.approx(difference.std(ddof=1) / math.sqrt(6)))


def test_the_noise_is_no_less_than_the_comparisons_own():
    """Somewhat noisier than the rest, too little for a test to object: its own variance, all degrees of freedom."""
    values = noisy(4, 5, seed=2)
    table = np.array(list(values.values()))
    pairs = [(i, j) for i in range(4) for j in range(i)]
    i, j = max(pairs, key=lambda pair: np.var(table[pair[0]] - table[pair[1]]))
    found = estimate(fake.results(values), Better(f"a{i}", f"a{j}"))
    assert (found.df, found.standard_error**2) == (12, pytest.approx(np.var(table[i] - table[j], ddof=1) / 5))


def test_arms_of_other_data_and_lost_arms_are_not_taken_together():
    values = noisy(4, 5)
    apart = fake.results(values, data={"a0": "x", "a1": "x", "a2": "y", "a3": "y"})
    assert estimate(apart, Better("a0", "a1")).df == 4
    lost = fake.results({**values, "a3": [math.nan, *values["a3"][1:]]})
    assert estimate(lost, Better("a0", "a1")).df == 2 * 4, "the other three"
    assert estimate(lost, Better("a0", "a3")).df == 3


def test_a_comparison_noisier_than_the_others_has_its_own_noise():
    values = noisy(5, 8, seed=3)
    values["a0"] = 10 + (values["a0"] - 10) * 20
    found = estimate(fake.results(values), Better("a0", "a1"))
    own = values["a0"] - values["a1"]
    assert (found.df, found.standard_error) == (7, pytest.approx(own.std(ddof=1) / math.sqrt(8)))
    assert estimate(fake.results(values), Better("a2", "a1")).df == 7, "Levene and Bartlett object for all"


def with_rows(values, rows):
    """`rows`: arm -> [S, B] pseudo-values."""
    found = fake.results(values)
    cells = [dataclasses.replace(c, stretches={fake.METRIC: rows[c.arm][c.seed].tolist()}) for c in found.cells]
    return dataclasses.replace(found, cells=cells)


def test_rows_are_an_error_of_their_own():
    """Equal seeds, other rows: the difference is no surer than its rows are."""
    rng = np.random.default_rng(0)
    rows = {arm: 10 + rng.normal(size=(1, 40)) + 0.01 * rng.normal(size=(4, 40)) for arm in ("a0", "a1")}
    found = estimate(with_rows({arm: table.mean(1) for arm, table in rows.items()}, rows), Better("a0", "a1"))
    assert list(found.errors) == ["seeds", "rows"]
    by_row = (rows["a1"] - rows["a0"]).mean(0)
    assert found.errors["rows"].variance == pytest.approx(by_row.var(ddof=1) / 40)
    assert found.errors["rows"].df == 39
    assert found.errors["rows"].variance > 50 * found.errors["seeds"].variance


def test_rows_that_are_as_hard_for_both_cost_nothing():
    hard = np.random.default_rng(0).normal(size=(1, 40)) * 5
    rows = {"a0": 10 + np.repeat(hard, 3, 0), "a1": 11 + np.repeat(hard, 3, 0)}
    found = estimate(with_rows({"a0": [10, 10.1, 9.9], "a1": [11, 11.2, 10.9]}, rows), Better("a0", "a1"))
    assert found.errors["rows"].variance == pytest.approx(0.0, abs=1e-12)


def test_a_cell_without_rows_leaves_them_out():
    found = fake.results(noisy(2, 4))
    assert list(estimate(found, Better("a0", "a1")).errors) == ["seeds"]
    one = with_rows(noisy(2, 4), {arm: np.ones((4, 20)) for arm in ("a0", "a1")})
    cells = [*one.cells[:-1], dataclasses.replace(one.cells[-1], stretches={})]
    assert list(estimate(dataclasses.replace(one, cells=cells), Better("a0", "a1")).errors) == ["seeds"]


def test_rows_that_were_cut_otherwise_are_left_out():
    """Batches of two sizes: no stretch of one arm is one of the other."""
    one = with_rows(noisy(2, 4), {"a0": np.ones((4, 20)), "a1": np.ones((4, 32))})
    assert list(estimate(one, Better("a0", "a1")).errors) == ["seeds"]
    assert "not of other rows" in judge(Better("a0", "a1"), one).note
    apart = dataclasses.replace(one, arms=[dataclasses.replace(arm, data=arm.name) for arm in one.arms])
    assert list(estimate(apart, Better("a0", "a1")).errors) == ["seeds", "rows"], "of other data each has its own"


def test_a_ratio_has_the_resolution_of_its_own_arms():
    found = fake.results({"a0": [0.5, 0.5], "a1": [0.25, 0.25], "a2": [0.0, 0.1]})
    claim = RatioBelow("a1", "a0", fake.METRIC, 0.9, every_seed=False)
    assert judge(claim, found).verdict == "undecided"


def test_what_an_interval_speaks_of_is_said():
    with_them = with_rows(noisy(2, 4), {arm: np.ones((4, 20)) for arm in ("a0", "a1")})
    verdict = judge(Better("a0", "a1"), with_them)
    assert (verdict.errors, "rows" in verdict.note) == (("seeds", "rows"), False)
    without = judge(Better("a0", "a1"), fake.results(noisy(2, 4)))
    assert (without.errors, without.note) == (("seeds",), "speaks of other seeds on these rows, not of other rows")


def test_the_choice_of_rates_is_an_error_of_its_own():
    found = fake.results(noisy(2, 4))
    rng = np.random.default_rng(1)
    tuned = [
        Cell(arm, "tune", 1000 + k, rate, "finished", {fake.METRIC: 10 + 0.3 * place**2 + rng.normal()})
        for arm in ("a0", "a1")
        for place, rate in ((-1, 1e-3), (0, 1e-2), (1, 1e-1))
        for k in range(3)
    ]
    with_tuning = dataclasses.replace(found, cells=[*tuned, *found.cells])
    errors = estimate(with_tuning, Better("a0", "a1")).errors
    assert list(errors) == ["seeds", "learning rates"]
    assert errors["learning rates"].variance > 0
    assert errors["seeds"] == estimate(found, Better("a0", "a1")).errors["seeds"]


def test_rounding_is_the_least_spread_there_is():
    values = {"a0": [0.91, 0.92, 0.93], "a1": [0.95, 0.96, 0.97], "a2": [0.90, 0.94, 0.92]}
    found = estimate(fake.results({k: values[k] for k in ("a0", "a1")}), Equivalent("a0", "a1", 0.1))
    assert found.standard_error**2 == pytest.approx(2 * 0.01**2 / 12 / 3)

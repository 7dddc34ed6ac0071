"""Which learning rate is taken, and what a wrong one may have cost."""

import math

import numpy as np
import pytest

from experiments.study.results import Arm, Cell, Results
from experiments.study.sweeps.tuning import Curve, best_logs, chosen, curves, noise, regrets

RATES = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3)


def parabola(rates, best, bend=0.3):
    return 2.0 + bend * (np.log(rates) - math.log(best)) ** 2


def cells(arm, rates, losses, metric="val/loss"):
    """[rates, seeds] as cells of a sweep; NaN diverged."""
    return [
        Cell(arm, "tune", 1000 + k, rate, "diverged" if math.isnan(v) else "finished", {metric: v})
        for rate, row in zip(rates, losses, strict=True)
        for k, v in enumerate(row)
    ]


def results(found, lower=True, arms=("a",)):
    return Results("x", "?", "val/loss", lower, [Arm(arm, {}, 1e-3) for arm in arms], found)


@pytest.mark.parametrize("best", [1.7e-3, 3e-3, 4e-3, 9e-3])
def test_the_vertex_of_a_parabola_is_found(best):
    assert chosen(RATES, parabola(RATES, best)) == pytest.approx(best, rel=1e-5)


def test_uneven_grids_have_a_vertex_too():
    rates = (1e-3, 1.5e-3, 5e-3, 6e-3)
    assert chosen(rates, parabola(rates, 2e-3)) == pytest.approx(2e-3, rel=1e-5)


def test_few_rates_edges_and_cliffs_take_the_best_that_was_tried():
    assert chosen(RATES[:3], parabola(RATES[:3], 1.7e-3)) == 2e-3
    assert chosen(RATES, parabola(RATES, 1e-4)) == 1e-3
    assert chosen(RATES, np.array([3.0, 2.5, 2.0, math.inf, math.inf])) == 4e-3
    assert chosen(RATES, np.array([2.0, 2.0, 2.0, 2.0, 2.0])) == 1e-3


def test_every_draw_is_chosen_for_as_if_alone():
    rng = np.random.default_rng(0)
    means = parabola(RATES, 3e-3) + rng.normal(0, 0.2, (50, 5))
    together = np.exp(best_logs(np.log(RATES), means))
    assert together == pytest.approx([chosen(RATES, row) for row in means], rel=1e-5)


def test_a_sweep_is_read_off_its_cells():
    losses = np.array([[3.0, 3.2], [2.0, 2.2], [math.nan, 2.1]])
    (curve,) = curves(cells("a", (1e-2, 1e-3, 1e-1), losses), "val/loss", True).values()
    assert curve.rates == (1e-3, 1e-2, 1e-1)
    assert curve.means.tolist() == pytest.approx([2.1, 3.1, math.inf])
    assert (curve.edge, curve.chosen()) == (-1, 1e-3)
    higher = curves(cells("a", (1e-2, 1e-3), losses[:2]), "val/loss", False)["a"]
    assert higher.chosen() == 1e-2, "where higher is better"
    assert curves(cells("a", (1e-3,), [[1.0]]), "val/loss", True)["a"].edge == 0, "one rate has no edge"


def test_the_edge_is_behind_where_the_next_diverged():
    curve = Curve((1e-3, 1e-2, 1e-1), np.array([[3.0], [2.0], [math.inf]]))
    assert (curve.edge, curve.chosen()) == (0, 1e-2)


def test_noise_is_what_rates_and_seeds_do_not_explain():
    """Two-way residuals, (rates - 1)(seeds - 1) degrees of freedom: against draws of a known variance."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        table = parabola(RATES[:3], 2e-3)[:, None] + rng.normal(0, 1, 4) + rng.normal(0, 0.2, (3, 4))
        found.append(noise([Curve(RATES[:3], table)]))
    assert np.mean(found) == pytest.approx(0.04, rel=0.1)
    assert noise([Curve(RATES, parabola(RATES, 2e-3)[:, None])]) == 0.0, "one seed says nothing of noise"


def test_what_a_wrong_rate_costs():
    """Nothing where the best is clear, up to what the curve rises where it is not; in the square of the metric."""
    rng = np.random.default_rng(2)
    clear = parabola(RATES, 4e-3, bend=3.0)[:, None] + rng.normal(0, 0.001, (5, 3))
    doubtful = parabola(RATES, 4e-3, bend=0.3)[:, None] + rng.normal(0, 0.2, (5, 3))
    small = regrets(results(cells("a", RATES, clear)))["a"]
    large = regrets(results(cells("a", RATES, doubtful)))["a"]
    assert 0 <= small < 1e-6
    assert 1e-4 < large < 0.3**2
    assert regrets(results([])) == {}


def test_the_cost_is_that_of_repeated_sweeps():
    """Its mean over studies is the mean square of what studies with that noise in fact lose."""
    rng, best, estimated, real = np.random.default_rng(3), 3.1e-3, [], []
    for _ in range(150):
        table = parabola(RATES[:4], best)[:, None] + rng.normal(0, 0.15, (4, 3))
        found = cells("a", RATES[:4], table)
        taken = curves(found, "val/loss", True)["a"].chosen()
        real.append((parabola(taken, best) - 2.0) ** 2)
        estimated.append(regrets(results(found))["a"])
    assert np.mean(estimated) == pytest.approx(np.mean(real), rel=1.0)
    assert np.mean(estimated) > 0.7 * np.mean(real), "it should not be told too small"


def test_one_tuning_seed_takes_the_noise_of_the_judged_ones():
    table = parabola(RATES[:3], 2e-3, bend=0.1)[:, None]
    seeds = [Cell("a", "seeds", s, 1e-3, "finished", {"val/loss": 2 + 0.1 * s}) for s in range(4)]
    assert regrets(results([*cells("a", RATES[:3], table), *seeds]))["a"] > 0
    assert regrets(results(cells("a", RATES[:3], table)))["a"] == 0.0

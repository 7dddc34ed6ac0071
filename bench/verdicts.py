"""What a verdict is worth: how often studies without an effect are decided, and how often effects are found.

    python -m bench.verdicts [--studies=4000]

Simulated cells are judged by the engine's own functions. Every row of the first table has arms that are equal, so that
any decision is false; the nominal rate is 5 % for all claims of a study together. Noise: a metric is the sum of what
a seed does to all arms (as large as the rest) and of what it does to one. An effect is in standard deviations of a
paired difference, so that one of 2 is 2 sqrt(2) of one arm's own noise.

    normal           four arms, three claims, the first primary
    skewed           exponential noise
    bad seeds        one seed of an arm in ten is worse by eight standard deviations
    noisier arm      one arm's noise is four times that of the others
    divergence       each arm loses a seed in four
    tuned, 3 rates   two arms, rates chosen on three tuning seeds, a wrong one costs as much as one seed's noise
    tuned, 5 rates   the same by a parabola
    rows             two arms, each better on rows of its own: over other rows they are equal
    accuracy         two arms, measured on 40 rows, steps of 1/40
    until            two arms, seeds from 3 on to the number in the head, one by one, until the claim is decided
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.study.claims.claims import Better
from experiments.study.claims.judge import judge_all
from experiments.study.claims.until import Until
from experiments.study.results import Arm, Cell, Results
from experiments.study.sweeps.tuning import curves

METRIC = "val/loss"
SEEDS = (3, 5, 10)
Table = Mapping[str, np.ndarray]
"""Arm -> a value a seed, NaN where it diverged."""


def results(arms: Table, stretches: Table | None = None, cells: Sequence[Cell] = (), level: float = 0.95) -> Results:
    """Cells of these values; `stretches` are [S, B] for each arm."""
    made = list(cells)
    for arm, values in arms.items():
        for seed, value in enumerate(values):
            status = "diverged" if math.isnan(value) else "finished"
            rows = {METRIC: stretches[arm][seed].tolist()} if stretches else {}
            made.append(Cell(arm, "seeds", seed, 1e-3, status, {METRIC: float(value)}, stretches=rows))
    named = [Arm(arm, {}, 1e-3) for arm in arms]
    return Results("simulated", "?", METRIC, True, named, made, level=level)


def decided(found: Results) -> bool:
    """Whether any claim on a difference to the first arm is decided."""
    first, *others = [arm.name for arm in found.arms]
    claims = [Better(first, other) for other in others]
    return any(verdict.verdict != "undecided" for verdict in judge_all(claims, found))


def noise(rng: np.random.Generator, arms: int, seeds: int, draw: str = "standard_normal") -> np.ndarray:
    """[arms, seeds] with standard deviation 1 of each arm's own part."""
    own = getattr(rng, draw)((arms, seeds)) if draw == "standard_normal" else rng.exponential(size=(arms, seeds)) - 1
    return 10 + own + rng.standard_normal(seeds)


def table(values: np.ndarray) -> Table:
    return {f"arm {index}": row for index, row in enumerate(values)}


def normal(rng: np.random.Generator, seeds: int) -> bool:
    return decided(results(table(noise(rng, 4, seeds))))


def skewed(rng: np.random.Generator, seeds: int) -> bool:
    return decided(results(table(noise(rng, 4, seeds, "exponential"))))


def bad_seeds(rng: np.random.Generator, seeds: int) -> bool:
    values = noise(rng, 4, seeds)
    return decided(results(table(values + 8 * (rng.random(values.shape) < 0.1))))


def noisier_arm(rng: np.random.Generator, seeds: int) -> bool:
    values = noise(rng, 4, seeds)
    values[0] += math.sqrt(15) * rng.standard_normal(seeds)
    return decided(results(table(values)))


def divergence(rng: np.random.Generator, seeds: int) -> bool:
    values = noise(rng, 4, seeds)
    return decided(results(table(np.where(rng.random(values.shape) < 0.25, np.nan, values))))


def tuned(rng: np.random.Generator, seeds: int, rates: int) -> bool:
    """The loss is a parabola in the logarithm of the rate, with the best rate anywhere in the grid's middle."""
    places = np.linspace(-1.0, 1.0, rates)
    best = rng.uniform(-0.5, 0.5)  # the same for both: they are equal
    cost = lambda place: 4.0 * (place - best) ** 2  # noqa: E731
    cells, shared = [], rng.standard_normal(3)
    for arm in ("arm 0", "arm 1"):
        drawn = rng.standard_normal((rates, 3)) + shared + cost(places)[:, None] + 10
        for place, row in zip(places, drawn, strict=True):
            cells += [Cell(arm, "tune", 1000 + k, 10**place, "finished", {METRIC: v}) for k, v in enumerate(row)]
    values = noise(rng, 2, seeds)
    for index, curve in enumerate(curves(cells, METRIC, True).values()):
        values[index] += cost(math.log10(curve.chosen()))
    return decided(results(table(values), cells=cells))


def rows(rng: np.random.Generator, seeds: int) -> bool:
    """Sixty stretches, on which arms differ by ten times their seeds' noise on a stretch."""
    own = noise(rng, 2, seeds)[:, :, None] + rng.standard_normal((2, 1, 60)) * 10
    values = own + rng.standard_normal((2, seeds, 60))
    return decided(results(table(values.mean(2)), table(values)))


def accuracy(rng: np.random.Generator, seeds: int) -> bool:
    return decided(results(table(1 - rng.binomial(40, 0.9, (2, seeds)) / 40)))


def until(rng: np.random.Generator, seeds: int) -> bool:
    rule = Until("primary", most=seeds, first=min(3, seeds))
    values, level = noise(rng, 2, seeds), 1 - rule.alpha()
    return any(decided(results(table(values[:, :count]), level=level)) for count in rule.looks)


FALSE: dict[str, Callable[[np.random.Generator, int], bool]] = {
    "normal": normal,
    "skewed": skewed,
    "bad seeds": bad_seeds,
    "noisier arm": noisier_arm,
    "divergence": divergence,
    "tuned, 3 rates": lambda rng, seeds: tuned(rng, seeds, 3),
    "tuned, 5 rates": lambda rng, seeds: tuned(rng, seeds, 5),
    "rows": rows,
    "accuracy": accuracy,
    "until": until,
}


def power(rng: np.random.Generator, seeds: int, arms: int, effect: float) -> bool:
    """Whether the primary claim is supported, where the first arm is better than all others."""
    values = noise(rng, arms, seeds)
    values[0] -= effect * math.sqrt(2)
    found = results(table(values))
    first, *others = [arm.name for arm in found.arms]
    return judge_all([Better(first, other) for other in others], found)[0].verdict == "supported"


TRUE: dict[str, Callable[[np.random.Generator, int], bool]] = {
    f"{arms} arms, effect {effect:g}": (lambda rng, seeds, arms=arms, effect=effect: power(rng, seeds, arms, effect))
    for arms in (2, 4)
    for effect in (1.0, 2.0)
}


def share(task: tuple[str, int, int, int]) -> float:
    """The share of `studies` of a row that are decided."""
    row, seeds, studies, start = task
    rng = np.random.default_rng([start, seeds, len(row), *map(ord, row)])
    run = FALSE.get(row) or TRUE[row]
    return sum(run(rng, seeds) for _ in range(studies)) / studies


def measure(studies: int, processes: int) -> dict[str, list[float]]:
    """Row -> the share that is decided, for each of `SEEDS`."""
    parts = 4
    tasks = [
        (row, seeds, studies // parts, part) for row in (*FALSE, *TRUE) for seeds in SEEDS for part in range(parts)
    ]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        shares = iter(pool.map(share, tasks, chunksize=1))
    return {row: [sum(next(shares) for _ in range(parts)) / parts for _ in SEEDS] for row in (*FALSE, *TRUE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    found = measure(given.studies, given.processes)
    for title, kinds in (("decided without an effect", FALSE), ("supported with an effect", TRUE)):
        print(f"| {title} | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |\n|---|{'---|' * len(SEEDS)}")
        for row in kinds:
            print(f"| {row} | {' | '.join(f'{value:.1%}' for value in found[row])} |")
        print()
    print(f"{given.studies} studies each; one standard error at 5 % is {math.sqrt(0.05 * 0.95 / given.studies):.2%}")


if __name__ == "__main__":
    main()

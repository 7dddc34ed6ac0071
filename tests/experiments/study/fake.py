"""Results that no training made: arms of known means and noise."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.study.results import Arm, Cell, Results

METRIC = "val/bits_per_byte"


def results(
    arms: Mapping[str, Sequence[float] | Mapping[str, Sequence[float]]],
    *,
    metric: str = METRIC,
    lower: bool = True,
    data: Mapping[str, str] | None = None,
    **fields: Any,
) -> Results:
    """Arm -> values of `metric`, or of several metrics by name, one a seed. NaN is a seed that diverged.

    `data`: arm -> what it was trained on; None: all on the same.
    """
    cells = []
    for arm, given in arms.items():
        by_name = given if isinstance(given, Mapping) else {metric: given}
        for seed, values in enumerate(zip(*by_name.values(), strict=True)):
            bad = any(math.isnan(value) for value in values)
            metrics = dict(zip(by_name, map(float, values), strict=True))
            cells.append(Cell(arm, "seeds", seed, 1e-3, "diverged" if bad else "finished", metrics))
    named = [Arm(arm, {"width": 64}, 1e-3, data=(data or {}).get(arm, "")) for arm in arms]
    return Results("fake", "Which?", metric, lower, named, cells, **fields)


def study(depths: Sequence[int] = (1, 2, 4, 8), seeds: int = 3, diverged: Sequence[tuple[int, int]] = ()) -> Results:
    """A study as the engine leaves it: sweep, seeds, curves and diagnostics; `diverged` are (depth, seed)."""
    rng = np.random.default_rng(0)
    rates = (3e-4, 1e-3, 3e-3)
    shared = rng.normal(0, 0.01, seeds)
    arms, cells = [], []
    for depth in depths:
        name, width = f"depth {depth}", 2 * round(128 / math.sqrt(depth) / 2)
        best = 2.2 - 0.08 * math.log2(depth)
        for rate in rates:
            cells.append(_cell(name, "tune", 0, rate, best + 0.1 * math.log10(rate / 1e-3) ** 2, depth, rng, True))
        for seed in range(seeds):
            value = best + shared[seed] + rng.normal(0, 0.01)
            cells.append(_cell(name, "seeds", seed, 1e-3, value, depth, rng, (depth, seed) not in diverged))
        shape = {
            "depth": depth,
            "width": width,
            "heads": 4,
            "parameters": 12 * depth * width**2 + 256 * width,
            "flops_per_token": 6 * (12 * depth * width**2 + 256 * width),
            "error": (-1) ** depth * 0.0031,
        }
        arms.append(Arm(name, shape, 1e-3, rates, at_edge=depth == 8))
    return Results(
        name="deep_vs_wide",
        question="At equal parameters, is it better to be deep or wide?",
        metric=METRIC,
        lower_is_better=True,
        arms=arms,
        cells=cells,
        paper=[
            {"arm": "depth 1", "published": 2.31, "source": "Table 2"},
            {"arm": "depth 8", "published": 1.98, "source": "Table 2"},
        ],
        notes=["Steps were cut from 20,000 to 400.", "Text with <b>marks</b> & signs stays text."],
        provenance={"strata": "0.1.0", "versions": {"jax": "0.10.2", "flax": "0.12.8"}, "hardware": "cpu, 2 cores"},
    )


def _cell(name: str, phase: Any, seed: int, rate: float, value: float, depth: int, rng: Any, fine: bool) -> Cell:
    steps = np.arange(10, 401, 10)[: None if fine else 12]
    fall = 3.3 * np.exp(-steps / 60.0)
    train = value * math.log(2) + fall + rng.normal(0, 0.03, len(steps))
    curve: list[dict[str, float]] = [
        {"step": int(s), "train/loss": float(v), "train/learning_rate": rate} for s, v in zip(steps, train, strict=True)
    ]
    for index in range(9, len(steps), 10):
        curve[index][METRIC] = float(value + fall[index] / math.log(2))
        curve[index]["val/loss"] = curve[index][METRIC] * math.log(2)
    metrics = {METRIC: value, "val/loss": value * math.log(2), "train/loss": float(train[-1])}
    layers = np.arange(1, depth + 1)
    diagnostics = {
        "residual_rms": list(0.02 * layers * np.exp(rng.normal(0, 0.05, depth)) * 1.4**layers),
        "attention_entropy": list(3.0 - 0.1 * layers + rng.normal(0, 0.05, depth)),
        "relative_contribution/attention": list(1.0 / layers + rng.normal(0, 0.02, depth)),
    }
    status: Any = "finished" if fine else "diverged"
    return Cell(name, phase, seed, rate, status, metrics, curve, diagnostics if phase == "seeds" else {}, 12.5 * depth)

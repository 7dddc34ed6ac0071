"""What the cells of an arm measured: final metrics, and per-layer diagnostics brought down to one number.

Names of metrics: `val/loss`, `test/loss` and the like as they are; `diagnostics/NAME` is the mean over layers,
`diagnostics/NAME[i]` the value of layer i (counted from 0, from the end if negative), `diagnostics/NAME[i->j]` the
growth from layer i to j.
"""

from __future__ import annotations

import math
import re
import statistics

from arch.spec import UserError
from experiments.study.results import Arm, Cell, Results

_LAYERS = re.compile(r"diagnostics/(?P<name>[^\[]+)(?:\[(?P<first>-?\d+)(?:->(?P<last>-?\d+))?\])?")
_HIGHER = re.compile(r"accuracy|tokens_per_s|rows_per_s|mfu|bleu|\bf1\b|score", re.IGNORECASE)
_LOWER = re.compile(r"loss|perplexity|bits|error|seconds|grad_norm", re.IGNORECASE)


def metric_values(results: Results, arm: str, metric: str | None = None) -> dict[int, float]:
    """Seed -> final value of `metric` (default: the study's) over the cells of `arm` in the phase "seeds".

    A cell that diverged gives NaN; one that finished without measuring the metric is left out.
    """
    metric = metric or results.metric
    found = {}
    for cell in results.cells:
        if cell.arm == arm and cell.phase == "seeds":
            value = math.nan if cell.status == "diverged" else cell_value(cell, metric)
            if value is not None:
                found[cell.seed] = value if math.isfinite(value) else math.nan
    return found


def cell_value(cell: Cell, metric: str) -> float | None:
    """What `cell` measured as `metric`, or None. Says nothing of divergence."""
    if metric in cell.metrics:
        return float(cell.metrics[metric])
    match = _LAYERS.fullmatch(metric)
    layers = cell.diagnostics.get(match["name"], ()) if match else ()
    if not match or not layers:
        return None
    try:
        if match["last"] is not None:
            return float(layers[int(match["last"])]) - float(layers[int(match["first"])])
        return float(layers[int(match["first"])]) if match["first"] is not None else statistics.fmean(layers)
    except IndexError:
        return None


def lower_is_better(results: Results, metric: str | None = None) -> bool:
    """The direction of `metric`: the study's own for its metric, else by name.

    Raises:
      UserError: the name does not say.
    """
    if metric is None or metric in (results.metric, results.tuned_by):
        return results.lower_is_better
    found = direction_of(metric)
    if found is None:
        raise UserError(f"{metric}: whether lower is better is not known by its name; give lower_is_better")
    return found


def direction_of(metric: str) -> bool | None:
    """Whether lower is better, by the name of a metric; None: it does not tell."""
    if _HIGHER.search(metric):
        return False
    return True if _LOWER.search(metric) else None


def bar(results: Results, arm: Arm, metric: str, lower: bool | None = None) -> tuple[str, float] | None:
    """Name and value of what a model on the data of `arm` has to beat in `metric`, if it is known.

    That is the best of the baseline that is the bar and of the weaker ones before it, which may be ahead of it in
    another metric. `lower`: whether lower is better; None: as the metric's name tells.
    """
    rows = [row for row in results.baselines if row["data"] == arm.data]
    last = next((index for index, row in enumerate(rows) if row["bar"]), -1)
    found = [(row["name"], row["values"][metric]) for row in rows[: last + 1] if metric in row["values"]]
    if not found:
        return None
    lower = lower_is_better(results, metric) if lower is None else lower
    return (min if lower else max)(found, key=lambda one: one[1])


def known(results: Results, arm: str) -> list[str]:
    """The metrics that the seeds of `arm` have, diagnostics included."""
    names: dict[str, None] = {}
    for cell in results.cells:
        if cell.arm == arm and cell.phase == "seeds":
            names |= dict.fromkeys(cell.metrics) | {f"diagnostics/{name}": None for name in cell.diagnostics}
    return list(names)

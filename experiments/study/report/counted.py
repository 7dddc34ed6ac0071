"""Baselines in a report: rows beside the arms, and whether any arm beats what a model has to beat."""

from __future__ import annotations

import math
from collections.abc import Iterator

from experiments.study.claims.measured import bar, lower_is_better, metric_values
from experiments.study.results import Results


def rows(results: Results) -> list[tuple[str, float]]:
    """Name and value of each baseline in the metric of the study; of several data sets, with an arm of each."""
    several = len({row["data"] for row in results.baselines}) > 1
    found = []
    for row in results.baselines:
        if results.metric in row["values"]:
            first = next((arm.name for arm in results.arms if arm.data == row["data"]), "")
            where = f" on the data of {first}" if several else ""
            found.append((f"{row['name']}{where}{', the bar' if row['bar'] else ''}", row["values"][results.metric]))
    return found


def unbeaten(results: Results) -> Iterator[str]:
    """A sentence for each data set on which no arm is better than its bar."""
    lower = lower_is_better(results)
    for data in dict.fromkeys(row["data"] for row in results.baselines):
        arms = [arm for arm in results.arms if arm.data == data]
        beat = bar(results, arms[0], results.metric) if arms else None
        means = [mean for arm in arms if (mean := _mean(results, arm.name)) is not None]
        if beat is not None and means and not any(mean != beat[1] and (mean < beat[1]) == lower for mean in means):
            of = "" if len(arms) == len(results.arms) else f" of {', '.join(arm.name for arm in arms)}"
            yield f"No arm{of} beats the baseline, {beat[0]} with {beat[1]:.4g}: nothing is concluded of their shape."


def _mean(results: Results, arm: str) -> float | None:
    values = [value for value in metric_values(results, arm).values() if math.isfinite(value)]
    return math.fsum(values) / len(values) if values else None

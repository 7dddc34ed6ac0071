"""The metric that chooses against the learning rate, for every arm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from experiments.study.report.plot import Plot, arms_legend, drawn, left_out
from experiments.study.report.style import axes, look
from experiments.study.report.table import label
from experiments.study.report.tables import ordered
from experiments.study.results import Results
from experiments.study.sweeps.rates import Sweep, chooses, sweeps


def sweep(results: Results) -> Iterator[Plot]:
    """Every arm's line in one panel, where there was a sweep."""
    found = [one for one in sweeps(results) if one.arm in drawn(results)]
    if not found:
        return
    figure, ax = axes()
    ax.set_xscale("log")
    for one in found:
        _draw(ax, one, look(ordered(results).index(one.arm)))
    every = [at for one in found for at in one.tried]
    tried = sorted({at.rate for at in every})
    ax.set_xticks(tried if len(tried) <= 6 else tried[:: -(-len(tried) // 6)])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="peak learning rate", ylabel=label(chooses(results)))
    arms_legend(figure, results, {one.arm: one for one in found})
    caption = "The sweep that chose each arm's learning rate. A ring is the one chosen"
    caption += "; a bar, one chosen between those tried." if any(one.between for one in found) else "."
    caption += " Each dot is a tuning seed, the line their mean." if any(len(at.values) > 1 for at in every) else ""
    caption += " A cross at the top is one that diverged." if any(at.diverged for at in every) else ""
    caption += left_out(results)
    yield Plot("sweep", "learning_rates", f"{label(chooses(results)).capitalize()} by learning rate", caption, figure)


def _draw(ax: Axes, one: Sweep, kind: dict[str, Any]) -> None:
    fine, color = [at for at in one.tried if at.values], kind["color"]
    ax.plot([at.rate for at in fine], [at.mean for at in fine], **kind, markersize=4)
    for at in one.tried:
        if len(at.values) > 1:
            ax.plot([at.rate] * len(at.values), at.values, "o", color=color, alpha=0.5, markersize=3, markeredgewidth=0)
        if at.diverged:
            ax.plot(at.rate, 0.97, "x", color=color, markersize=6, transform=ax.get_xaxis_transform())
    if fine and math.isfinite(one.chosen):
        height = np.interp(math.log(one.chosen), [math.log(at.rate) for at in fine], [at.mean for at in fine])
        ring = {"marker": "o", "markersize": 10, "fillstyle": "none", "markeredgewidth": 1.4}
        mark: dict[str, Any] = {"marker": "|", "markersize": 16, "markeredgewidth": 2.2} if one.between else ring
        ax.plot(one.chosen, height, color=color, **mark)

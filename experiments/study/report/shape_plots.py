"""Plots of a report that set arms side by side by what was varied: depth and width, cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.study.claims.measured import metric_values
from experiments.study.report.plot import Plot, finite, slug
from experiments.study.report.style import INK, axes, legend, look
from experiments.study.report.table import label, short, text
from experiments.study.results import Cell, Results


def heat(results: Results) -> Iterator[Plot]:
    """The metric over depth and width, where arms have both."""
    found: dict[tuple[float, float], list[float]] = {}
    for arm in results.arms:
        depth, width = arm.shape.get("depth"), arm.shape.get("width")
        fine = finite(metric_values(results, arm.name))
        if isinstance(depth, (int, float)) and isinstance(width, (int, float)) and fine:
            found.setdefault((depth, width), []).append(float(np.mean(fine)))
    depths, widths = sorted({key[0] for key in found}), sorted({key[1] for key in found})
    if len(found) < 3 or len(depths) < 2 or len(widths) < 2:
        return
    grid = np.full((len(depths), len(widths)), np.nan)
    for (depth, width), values in found.items():
        grid[depths.index(depth), widths.index(width)] = min(values) if results.lower_is_better else max(values)
    figure, ax = axes(min(1.3 + 0.42 * len(depths), 6.0))
    image = ax.imshow(grid, cmap="cividis_r" if results.lower_is_better else "cividis", aspect="auto", origin="lower")
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    size = 8.5 if max(len(widths), len(depths)) <= 8 else 6.0
    for (row, column), value in np.ndenumerate(grid):
        if math.isfinite(value):
            share = (value - low) / (high - low) if high > low else 0.5
            dark = share > 0.5 if results.lower_is_better else share < 0.5
            color = "#f7f7f7" if dark else "#101010"
            ax.text(column, row, text(value), ha="center", va="center", fontsize=size, color=color)
    ax.set_xticks(range(len(widths)), [text(w) for w in widths])
    ax.set_yticks(range(len(depths)), [text(d) for d in depths])
    ax.set(xlabel="width", ylabel="depth")
    ax.grid(visible=False)
    bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=14)
    bar.outline.set_visible(False)
    bar.set_label(label(results.metric))
    caption = "Mean over seeds; empty places were not trained."
    yield Plot("shape", "depth_width", f"{label(results.metric).capitalize()} by depth and width", caption, figure)


def fronts(results: Results) -> Iterator[Plot]:
    """The metric over each cost in which the arms differ."""
    costs = [key for arm in results.arms for key in arm.shape if "flops" in key or key.startswith("param")]
    sources = {key: {arm.name: _number(arm.shape.get(key)) for arm in results.arms} for key in costs}
    sources["seconds of training, one seed"] = {arm.name: _seconds(results.cells, arm.name) for arm in results.arms}
    known = [arm.name for arm in results.arms]
    for key, cost in sources.items():
        points: list[tuple[float, float, str, list[float]]] = []
        for name in known:
            x, fine = cost[name], finite(metric_values(results, name))
            if x is not None and x > 0 and fine:
                points.append((x, float(np.mean(fine)), name, fine))
        if len(points) < 2 or max(p[0] for p in points) < 1.02 * min(p[0] for p in points):
            continue
        figure, ax = axes()
        for x, y, name, fine in points:
            kind = look(known.index(name))
            ax.plot(x, y, marker=kind["marker"], color=kind["color"], markersize=6, linestyle="none")
            if len(fine) > 1:
                ax.plot([x, x], [min(fine), max(fine)], color=kind["color"], linewidth=1.2)
        front = _front([(x, y) for x, y, *_ in points], results.lower_is_better)
        ax.step(*zip(*front, strict=True), where="post", color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        if max(p[0] for p in points) > 4 * min(p[0] for p in points):
            far = max(p[0] for p in points) > 100 * min(p[0] for p in points)
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if far else (1.0, 2.0, 5.0)))
            ax.xaxis.set_minor_locator(NullLocator())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(lambda value, _: short(float(f"{value:.6g}"), 4))
        ax.set(xlabel=label(key), ylabel=label(results.metric))
        legend(figure, [p[2] for p in points], [known.index(p[2]) for p in points], lines=False)
        caption = "Mean and range over seeds. Dashed: the front, what no other arm beats at its cost."
        yield Plot("cost", f"cost_{slug(key)}", f"By {label(key)}", caption, figure)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _seconds(cells: Sequence[Cell], arm: str) -> float | None:
    seconds = [c.seconds for c in cells if c.arm == arm and c.phase == "seeds" and c.status == "finished"]
    return float(np.mean(seconds)) if seconds else None


def _front(points: Sequence[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """The points that no cheaper one equals or beats, cheapest first."""
    out: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], point[1] if lower else -point[1])):
        if not out or (y < out[-1][1] if lower else y > out[-1][1]):
            out.append((x, y))
    return out

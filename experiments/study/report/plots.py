"""The plots of a report, each from a `Results` alone. A plot whose numbers are missing is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.study.claims.measured import metric_values
from experiments.study.claims.statistics import t_interval
from experiments.study.report.exhibited import exhibited
from experiments.study.report.plot import Plot, arms_legend, drawn, finite, left_out, slug
from experiments.study.report.rate_plot import sweep
from experiments.study.report.shape_plots import fronts, heat
from experiments.study.report.style import GRID, axes, look, plain
from experiments.study.report.table import label, text
from experiments.study.report.tables import ordered
from experiments.study.results import Results


def plots(results: Results) -> Iterator[Plot]:
    """All that the results have numbers for, in the order of the page. Make and save them within `style()`."""
    for make in (_finals, _curves, sweep, heat, fronts, _diagnostics, exhibited):
        yield from make(results)


def _finals(results: Results) -> Iterator[Plot]:
    names = ordered(results)
    values = {name: metric_values(results, name) for name in names}
    every = [v for name in names for v in finite(values[name])]
    if not every:
        return
    figure, ax = axes(1.0 + 0.32 * len(names))
    room = max(max(every) - min(every), 1e-9 + 1e-3 * abs(max(every)))
    lows, highs = [min(every)], [max(every)]
    told = []
    for row, name in enumerate(names):
        fine, color = finite(values[name]), look(row)["color"]
        ax.plot(fine, [row - 0.22] * len(fine), "o", color=color, alpha=0.6, markersize=4.5, markeredgewidth=0)
        interval = t_interval(fine)
        if fine:
            ax.plot(interval.estimate, row, "|", color=color, markersize=13, markeredgewidth=2.2)
        if not math.isnan(interval.low):
            ax.plot([interval.low, interval.high], [row, row], "-", color=color, linewidth=1.8)
            lows.append(max(interval.low, min(every) - 1.2 * room))
            highs.append(min(interval.high, max(every) + 1.2 * room))
        lost = len(values[name]) - len(fine)
        told.append(plain(name) + (f"\n{lost} of {len(values[name])} diverged" if lost else ""))
    pad = 0.05 * (max(highs) - min(lows)) or room
    ax.set(xlim=(min(lows) - pad, max(highs) + pad), ylim=(len(names) - 0.5, -0.5), xlabel=label(results.metric))
    if min(every) > 0 and max(every) > 20 * min(every):
        ax.set_xscale("log")
        ax.set_xlim(min(every) / 1.3, max(every) * 1.3)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda value, _: text(float(f"{value:.6g}")))
    ax.set_yticks(range(len(names)), told)
    ax.grid(visible=False, axis="y")
    caption = "Each dot is a seed, the bar is the mean, the line its 95% t interval."
    yield Plot("results", "results", "Final " + label(results.metric), caption, figure)


Line = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _over_seeds(curves: Sequence[Sequence[tuple[float, float]]], points: int = 150) -> Line:
    """Steps, mean, smallest and largest over curves, averaged within at most `points` stretches of steps."""
    last = max(step for curve in curves for step, _ in curve)
    steps = sorted({step for curve in curves for step, _ in curve})
    width = last / points if len(steps) > points else 0
    binned: dict[float, list[list[float]]] = {}
    for index, curve in enumerate(curves):
        for step, value in curve:
            at = (math.ceil(step / width) * width) if width else step
            binned.setdefault(at, [[] for _ in curves])[index].append(value)
    rows = []
    for at in sorted(binned):
        means = [float(np.mean(values)) for values in binned[at] if values]
        rows.append((at, float(np.mean(means)), min(means), max(means)))
    x, mean, low, high = np.array(rows).T
    return x, mean, low, high


def _curves(results: Results) -> Iterator[Plot]:
    present = {name for cell in results.cells if cell.phase == "seeds" for line in cell.curve for name in line}
    along = results.tuned_by or results.metric  # the test split is measured at the end alone
    wanted = [along, f"train/{along.partition('/')[2]}", "val/loss", "train/loss"]
    for name in [name for name in dict.fromkeys(wanted) if name in present][:3]:
        lines: dict[str, Line] = {}
        stopped = []
        for arm in drawn(results):
            curves = []
            for cell in results.cells:
                if cell.arm == arm and cell.phase == "seeds":
                    curve = [(line["step"], line[name]) for line in cell.curve if name in line and "step" in line]
                    curve = [(step, value) for step, value in curve if math.isfinite(value)]
                    curves += [curve] if curve else []
                    if curve and cell.status == "diverged":
                        stopped.append((arm, curve[-1]))
            if curves:
                lines[arm] = _over_seeds(curves)
        if not lines:
            continue
        figure, ax = axes()
        _bands(ax, results, lines, markers=False)
        for arm, (step, value) in stopped:
            ax.plot(step, value, "x", color=look(ordered(results).index(arm))["color"], markersize=7, clip_on=False)
        _cut_the_start(ax, list(lines.values()))
        ax.set(xlabel="step", ylabel=label(name))
        arms_legend(figure, results, lines)
        caption = "Mean over seeds; the band is from the lowest to the highest seed."
        caption += (" A cross is where a seed diverged." if stopped else "") + left_out(results)
        yield Plot("curves", "curve_" + slug(name), label(name).capitalize(), caption, figure)


def _bands(ax: Axes, results: Results, lines: Mapping[str, Line], markers: bool) -> None:
    order = ordered(results)
    for arm, (x, mean, low, high) in lines.items():
        kind = look(order.index(arm))
        few = markers or len(x) < 12
        kind |= {"marker": kind["marker"] if few else None}
        ax.plot(x, mean, **kind, markersize=3.5, markevery=-(-len(x) // 12) if few else None)
        ax.fill_between(x, low, high, color=kind["color"], alpha=0.18, linewidth=0)


def _cut_the_start(ax: Axes, lines: Sequence[Line]) -> None:
    """The fall of the first steps would leave the differences no room: the axis shows what comes after a tenth."""
    last = max(x[-1] for x, *_ in lines)
    late = [(low[x >= last / 10], high[x >= last / 10]) for x, _, low, high in lines if np.any(x >= last / 10)]
    low, high = min(float(low.min()) for low, _ in late), max(float(high.max()) for _, high in late)
    if high > low:
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _diagnostics(results: Results) -> Iterator[Plot]:
    cells = [cell for cell in results.cells if cell.phase == "seeds"]
    for name in dict.fromkeys(name for cell in cells for name in cell.diagnostics):
        lines: dict[str, Line] = {}
        for arm in drawn(results):
            rows = [cell.diagnostics[name] for cell in cells if cell.arm == arm and cell.diagnostics.get(name)]
            curves = [[(i, float(v)) for i, v in enumerate(row, 1) if math.isfinite(v)] for row in rows]
            curves = [curve for curve in curves if curve]
            if curves:
                lines[arm] = _over_seeds(curves, points=10_000)
        if not lines:
            continue
        figure, ax = axes(2.5)
        _bands(ax, results, lines, markers=True)
        everything = np.concatenate([values for line in lines.values() for values in line[1:]])
        if everything.min() > 0 and everything.max() > 30 * everything.min():
            ax.set_yscale("log")
        elif everything.min() < 0 < everything.max():
            ax.axhline(0, color=GRID, linewidth=1.2, zorder=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        longest = max(float(line[0][-1]) for line in lines.values())
        ax.set(xlabel="layer", ylabel=label(name), xlim=(1 - 0.03 * longest - 0.02, longest * 1.03 + 0.02))
        arms_legend(figure, results, lines)
        yield Plot(
            "diagnostics", f"diagnostic_{slug(name)}", label(name).capitalize(), left_out(results).strip(), figure
        )

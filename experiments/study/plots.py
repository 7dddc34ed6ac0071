"""The plots of a report, each from a `Results` alone. A plot whose numbers are missing is left out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from experiments.study.measured import cell_value, metric_values
from experiments.study.results import Cell, Results
from experiments.study.statistics import t_interval
from experiments.study.style import GRID, INK, axes, legend, look, plain
from experiments.study.tables import label, ordered, short, text


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure; `name` is that of its files, `section` the one of the page that it belongs to."""

    section: str
    name: str
    title: str
    caption: str
    figure: Figure


def plots(results: Results) -> Iterator[Plot]:
    """All that the results have numbers for, in the order of the page. Make and save them within `style()`."""
    for make in (_finals, _curves, _sweep, _heat, _fronts, _diagnostics):
        yield from make(results)


def _finite(values: Mapping[int, float]) -> list[float]:
    return [value for value in values.values() if math.isfinite(value)]


def _finals(results: Results) -> Iterator[Plot]:
    names = ordered(results)
    values = {name: metric_values(results, name) for name in names}
    every = [v for name in names for v in _finite(values[name])]
    if not every:
        return
    figure, ax = axes(1.0 + 0.32 * len(names))
    room = max(max(every) - min(every), 1e-9 + 1e-3 * abs(max(every)))
    lows, highs = [min(every)], [max(every)]
    for row, name in enumerate(names):
        fine, color = _finite(values[name]), look(row)["color"]
        ax.plot(fine, [row - 0.22] * len(fine), "o", color=color, alpha=0.6, markersize=4.5, markeredgewidth=0)
        interval = t_interval(fine)
        if fine:
            ax.plot(interval.estimate, row, "|", color=color, markersize=13, markeredgewidth=2.2)
        if not math.isnan(interval.low):
            ax.plot([interval.low, interval.high], [row, row], "-", color=color, linewidth=1.8)
            lows.append(max(interval.low, min(every) - 1.2 * room))
            highs.append(min(interval.high, max(every) + 1.2 * room))
        lost = len(values[name]) - len(fine)
        if lost:
            ax.annotate(
                f"{lost} of {len(values[name])} diverged",
                (1, row),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="center",
                fontsize=8,
            )
    pad = 0.05 * (max(highs) - min(lows)) or room
    ax.set(xlim=(min(lows) - pad, max(highs) + pad), ylim=(len(names) - 0.5, -0.5), xlabel=label(results.metric))
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
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
    rest = results.metric.partition("/")[2]
    wanted = [results.metric, f"train/{rest}", "val/loss", "train/loss"]
    for name in [name for name in dict.fromkeys(wanted) if name in present][:3]:
        lines: dict[str, Line] = {}
        stopped = []
        for arm in ordered(results):
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
        _legend(figure, results, lines)
        caption = "Mean over seeds; the band is from the lowest to the highest seed."
        caption += " A cross is where a seed diverged." if stopped else ""
        yield Plot("curves", "curve_" + name.replace("/", "_"), label(name).capitalize(), caption, figure)


def _bands(ax: Axes, results: Results, lines: Mapping[str, Line], markers: bool) -> None:
    order = ordered(results)
    for arm, (x, mean, low, high) in lines.items():
        kind = look(order.index(arm))
        few = markers or len(x) < 12
        ax.plot(x, mean, **{**kind, "marker": kind["marker"] if few else None}, markersize=3.5)
        ax.fill_between(x, low, high, color=kind["color"], alpha=0.18, linewidth=0)


def _cut_the_start(ax: Axes, lines: Sequence[Line]) -> None:
    """The fall of the first steps would leave the differences no room: the axis shows what comes after a tenth."""
    last = max(x[-1] for x, *_ in lines)
    late = [(low[x >= last / 10], high[x >= last / 10]) for x, _, low, high in lines if np.any(x >= last / 10)]
    low, high = min(float(low.min()) for low, _ in late), max(float(high.max()) for _, high in late)
    if high > low:
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _legend(figure: Figure, results: Results, shown: Mapping[str, object]) -> None:
    order = ordered(results)
    legend(figure, list(shown), [order.index(name) for name in shown])


def _sweep(results: Results) -> Iterator[Plot]:
    lines: dict[str, tuple[list[float], list[float]]] = {}
    lost: list[tuple[str, float]] = []
    for arm in ordered(results):
        at: dict[float, list[float]] = {}
        for cell in results.cells:
            if cell.arm == arm and cell.phase == "tune":
                value = cell_value(cell, results.metric) if cell.status == "finished" else None
                if value is None or not math.isfinite(value):
                    lost.append((arm, cell.learning_rate))
                else:
                    at.setdefault(cell.learning_rate, []).append(value)
        if at:
            lines[arm] = (sorted(at), [float(np.mean(at[rate])) for rate in sorted(at)])
    if not lines:
        return
    figure, ax = axes()
    chosen = {arm.name: arm.learning_rate for arm in results.arms}
    order = ordered(results)
    for name, (rates, means) in lines.items():
        kind = look(order.index(name))
        ax.plot(rates, means, **kind, markersize=4)
        if chosen.get(name) in rates:
            best = means[rates.index(chosen[name])]
            ax.plot(chosen[name], best, "o", color=kind["color"], markersize=10, fillstyle="none", markeredgewidth=1.4)
    for name, rate in lost:
        kind = look(order.index(name))
        where = ("data", "axes fraction")
        ax.annotate("×", (rate, 0.97), xycoords=where, color=kind["color"], ha="center", va="center", fontsize=12)  # noqa: RUF001
    rates = sorted({rate for line in lines.values() for rate in line[0]} | {rate for _, rate in lost})
    ax.set_xscale("log")
    ax.set_xticks(rates if len(rates) <= 6 else rates[:: -(-len(rates) // 6)])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="peak learning rate", ylabel=label(results.metric))
    _legend(figure, results, lines)
    caption = "The sweep that chose each arm's learning rate. A ring is the one chosen."
    caption += " A cross at the top is one that diverged." if lost else ""
    yield Plot("sweep", "learning_rates", f"{label(results.metric).capitalize()} by learning rate", caption, figure)


def _heat(results: Results) -> Iterator[Plot]:
    found: dict[tuple[float, float], list[float]] = {}
    for arm in results.arms:
        depth, width = arm.shape.get("depth"), arm.shape.get("width")
        fine = _finite(metric_values(results, arm.name))
        if isinstance(depth, (int, float)) and isinstance(width, (int, float)) and fine:
            found.setdefault((depth, width), []).append(float(np.mean(fine)))
    depths, widths = sorted({key[0] for key in found}), sorted({key[1] for key in found})
    if len(found) < 3 or len(depths) < 2 or len(widths) < 2:
        return
    grid = np.full((len(depths), len(widths)), np.nan)
    for (depth, width), values in found.items():
        grid[depths.index(depth), widths.index(width)] = min(values) if results.lower_is_better else max(values)
    figure, ax = axes(1.3 + 0.42 * len(depths))
    image = ax.imshow(grid, cmap="cividis_r" if results.lower_is_better else "cividis", aspect="auto", origin="lower")
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    size = 8.5 if len(widths) <= 8 else 6.5
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


def _fronts(results: Results) -> Iterator[Plot]:
    costs = [key for arm in results.arms for key in arm.shape if "flops" in key or key.startswith("param")]
    sources = {key: {arm.name: _number(arm.shape.get(key)) for arm in results.arms} for key in costs}
    sources["seconds of training, one seed"] = {arm.name: _seconds(results.cells, arm.name) for arm in results.arms}
    known = [arm.name for arm in results.arms]
    for key, cost in sources.items():
        points: list[tuple[float, float, str, list[float]]] = []
        for name in known:
            x, fine = cost[name], _finite(metric_values(results, name))
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
            ax.set_xscale("log")
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.xaxis.set_major_formatter(lambda value, _: short(value))
        ax.set(xlabel=label(key), ylabel=label(results.metric))
        legend(figure, [p[2] for p in points], [known.index(p[2]) for p in points], lines=False)
        caption = "Mean and range over seeds. Dashed: the front, what no other arm beats at its cost."
        slug = "".join(c if c.isalnum() else "_" for c in key)
        yield Plot("cost", f"cost_{slug}", f"By {label(key)}", caption, figure)


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


def _diagnostics(results: Results) -> Iterator[Plot]:
    cells = [cell for cell in results.cells if cell.phase == "seeds"]
    for name in dict.fromkeys(name for cell in cells for name in cell.diagnostics):
        lines: dict[str, Line] = {}
        for arm in ordered(results):
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
        _legend(figure, results, lines)
        slug = "".join(c if c.isalnum() else "_" for c in name)
        yield Plot("diagnostics", f"diagnostic_{slug}", label(name).capitalize(), "", figure)

"""How the plots of a report look: colours that the colour-blind tell apart, letters that a phone shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK, PAPER, GRID = "#1b1f25", "#fefefd", "#d9dde2"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d46")
"""Okabe and Ito's colours without yellow and black, which fade on light and dark paper; and a brown."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 4.7
"""Inches. Small enough that the letters can still be read on a phone."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "strata",
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


def look(index: int) -> dict[str, Any]:
    """Colour, dash and marker of the arm at `index`; 28 different ones."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": DASHES[index // len(PALETTE) % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def style() -> Any:
    """A context in which figures are made and saved."""
    return matplotlib.rc_context(STYLE)


def plain(name: str) -> str:
    """A name that matplotlib takes as it is: no formula, and not hidden."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def axes(height: float = 3.1) -> tuple[Figure, Axes]:
    """An empty panel."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def legend(figure: Figure, names: Sequence[str], indices: Sequence[int], lines: bool = True) -> None:
    """Names of the arms below the panel, in as many columns as fit."""
    handles = []
    for index in indices:
        kind = look(index)
        marker = {"marker": kind["marker"], "markersize": 4}
        handles.append(Line2D([], [], **({**kind, **marker} if lines else {**kind, **marker, "linestyle": "none"})))
    longest = max(map(len, names), default=1)
    columns = max(1, min(4, len(names), 56 // (longest + 6)))
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * rows)
    figure.legend(
        handles,
        [plain(name) for name in names],
        loc="outside lower center",
        ncols=columns,
        handlelength=2.4,
        columnspacing=1.2,
    )


def png(figure: Figure) -> bytes:
    """At twice the size of the page."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=192, metadata={"Software": None})
    return out.getvalue()

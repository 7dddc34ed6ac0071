"""What the scores of a study show: their matrices as heat maps and a table, their pictures as a sheet."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from experiments.study.report.plot import Plot, slug
from experiments.study.report.style import axes, plain
from experiments.study.report.table import Table, text
from experiments.study.report.tables import ordered
from experiments.study.results import Cell, Results
from experiments.suites.exhibits import Matrix, Pictures

ACROSS = 5
"""Pictures side by side."""


def exhibited(results: Results) -> Iterator[Plot]:
    """One plot for each arm and title."""
    for arm, cells in _by_arm(results):
        for title in dict.fromkeys(one.title for cell in cells for one in cell.matrices):
            found = [one for cell in cells for one in cell.matrices if one.title == title]
            yield _heat(f"{title.capitalize()}: {arm}", found)
        for pictures in cells[0].pictures if cells else ():
            yield _sheet(f"{pictures.title.capitalize()}: {arm}", pictures)


def matrices(results: Results) -> Table:
    """Every number of every matrix, the mean over seeds."""
    rows = []
    for arm, cells in _by_arm(results):
        for title in dict.fromkeys(one.title for cell in cells for one in cell.matrices):
            found = [one for cell in cells for one in cell.matrices if one.title == title]
            for (i, j), value in np.ndenumerate(_mean(found)):
                rows.append((arm, title, found[0].rows[i], found[0].columns[j], float(value), len(found)))
    return Table("matrices", ("arm", "matrix", "row", "column", "mean", "seeds"), tuple(rows))


def _by_arm(results: Results) -> Iterator[tuple[str, list[Cell]]]:
    for arm in ordered(results):
        yield arm, [cell for cell in results.cells if (cell.arm, cell.phase, cell.status) == (arm, "seeds", "finished")]


def _mean(found: list[Matrix]) -> np.ndarray:
    mean: np.ndarray = np.mean([np.asarray(one.values, np.float64) for one in found], axis=0)
    return mean


def _heat(title: str, found: list[Matrix]) -> Plot:
    grid, one = _mean(found), found[0]
    figure, ax = axes(min(1.1 + 0.36 * len(one.rows), 6.0))
    ax.imshow(grid, cmap="cividis", vmin=min(0.0, float(grid.min())), vmax=max(1.0, float(grid.max())), aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        color = "#f7f7f7" if value < 0.5 else "#101010"
        ax.text(column, row, text(round(value, 3)), ha="center", va="center", color=color, fontsize=8.5)
    ax.set_xticks(range(len(one.columns)), list(map(plain, one.columns)))
    ax.set_yticks(range(len(one.rows)), list(map(plain, one.rows)))
    ax.set(xlabel=one.across, ylabel=one.down)
    ax.grid(visible=False)
    return Plot("shown", "shown_" + slug(title.lower()), title, "Matrices are means over seeds.", figure)


def _sheet(title: str, pictures: Pictures) -> Plot:
    """The pictures on one sheet, `ACROSS` side by side, each with its name below."""
    images = np.asarray(pictures.values, np.float64)
    count, height, width = images.shape
    lines, gap = math.ceil(count / ACROSS), max(2, height // 4)
    sheet = np.full((lines * (height + gap), ACROSS * (width + 1) - 1), np.nan)
    figure, ax = axes(4.7 * sheet.shape[0] / sheet.shape[1])
    for index, image in enumerate(images):
        top, left = index // ACROSS * (height + gap), index % ACROSS * (width + 1)
        sheet[top : top + height, left : left + width] = image
        below = top + height - 0.5 + gap / 2
        ax.text(left + width / 2 - 0.5, below, plain(pictures.names[index]), ha="center", va="center", fontsize=8)
    ax.imshow(sheet, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
    ax.set_axis_off()
    return Plot("shown", "shown_" + slug(title.lower()), title, pictures.caption, figure)

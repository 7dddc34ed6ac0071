"""What all plots of a report share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from experiments.study.report.style import legend
from experiments.study.report.tables import ordered
from experiments.study.results import Results


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure; `name` is that of its files, `section` the one of the page that it belongs to."""

    section: str
    name: str
    title: str
    caption: str
    figure: Figure


def slug(text: str) -> str:
    """A text as part of the name of a file, and of what is in it."""
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def finite(values: Mapping[int, float]) -> list[float]:
    """Those of the seeds that did not diverge."""
    return [value for value in values.values() if math.isfinite(value)]


def arms_legend(figure: Figure, results: Results, shown: Mapping[str, object]) -> None:
    """Names the arms that are `shown` below the panel."""
    order = ordered(results)
    legend(figure, list(shown), [order.index(name) for name in shown])

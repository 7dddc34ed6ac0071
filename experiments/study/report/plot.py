"""What all plots of a report share."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from matplotlib.figure import Figure

from experiments.study.claims.measured import metric_values
from experiments.study.report.style import legend
from experiments.study.report.tables import ordered
from experiments.study.results import Results

MOST = 20
"""Lines of more arms than that nobody can distinguish, and a page of them is slow."""


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


def drawn(results: Results) -> list[str]:
    """The arms that lines are drawn of: at most MOST, those that claims name before those with the best metric."""
    names = ordered(results)
    if len(names) <= MOST:
        return names
    said = " ".join(fields["claim"] for fields in results.verdicts)
    named = [name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", said)]
    sign, values = 1 if results.lower_is_better else -1, {name: finite(metric_values(results, name)) for name in names}
    means = {name: sign * sum(own) / len(own) for name, own in values.items() if own}
    best = sorted(means, key=lambda name: means[name])
    chosen = set(list(dict.fromkeys([*named, *best, *names]))[:MOST])
    return [name for name in names if name in chosen]


def left_out(results: Results) -> str:
    """What a caption says where not all arms are drawn."""
    all_of_them, some = len(ordered(results)), len(drawn(results))
    if some == all_of_them:
        return ""
    return f" Of {all_of_them} arms {some} are drawn: those that claims name, then the best; the tables have all."


def arms_legend(figure: Figure, results: Results, shown: Mapping[str, object]) -> None:
    """Names the arms that are `shown` below the panel."""
    order = ordered(results)
    legend(figure, list(shown), [order.index(name) for name in shown])

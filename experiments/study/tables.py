"""The tables of a report: rows of plain values from a `Results`, as CSV, HTML and rich."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from experiments.study.measured import metric_values
from experiments.study.results import Arm, Results
from experiments.study.statistics import bootstrap_interval, t_interval
from experiments.study.verdicts import Verdict

_LABELS = {
    "loss": "loss (nats)",
    "bits_per_byte": "bits per byte",
    "error": "residual error of matching",
    "non_embedding": "parameters without embeddings",
    "body": "parameters without embeddings and head",
}
_HEADS = {_LABELS["body"]: "body params", _LABELS["non_embedding"]: "body params", "learning rate": "rate"}
"""Heads of columns where there is little room."""
_SPLITS = {"val": "validation", "train": "training"}


@dataclasses.dataclass(frozen=True)
class Table:
    """`rows` of plain values under `columns`; `name` is that of the CSV file."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def csv(self) -> str:
        """With numbers in full precision."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return out.getvalue()

    def cells(self) -> list[list[str]]:
        """As people read it."""
        return [[_said(name, value) for name, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers, and is set flush right."""
        return all(
            value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
            for value in (row[column] for row in self.rows)
        )

    def html(self) -> str:
        """A table in a container that scrolls by itself."""
        kinds = ["number" if self.numeric(index) else "text" for index in range(len(self.columns))]
        head = "".join(
            f'<th scope="col" class="{kind}">{html.escape(name)}</th>'
            for kind, name in zip(kinds, self.columns, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(f'<td class="{k}">{html.escape(v)}</td>' for k, v in zip(kinds, row, strict=True))
            + "</tr>"
            for row in self.cells()
        )
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(self.name)}">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def rich(self, whole: Sequence[int] = ()) -> RichTable:
        """For a terminal: large numbers as 1.3M. Where it is narrow, text folds; numbers and `whole` columns do not."""
        out = RichTable(box=SIMPLE_HEAD, pad_edge=False)
        out.padding = (0, 1, 0, 0)
        for index, name in enumerate(self.columns):
            head = _HEADS.get(name, name.replace("validation", "val.").replace("parameters", "params"))
            number = self.numeric(index)
            side: Literal["left", "right"] = "right" if number else "left"
            fixed = number or index in whole
            out.add_column(
                Text(head.replace(" ", "\n")), no_wrap=fixed, overflow="fold", justify=side, vertical="bottom"
            )
        for row in self.rows:
            out.add_row(*(Text(short(value)) for value in row))
        return out


def _said(column: str, value: Any) -> str:
    share = column == _LABELS["error"] and isinstance(value, float) and math.isfinite(value)
    return f"{value:+.2%}" if share else text(value)


def text(value: Any, digits: int = 4) -> str:
    """A value as people read it: `digits` significant ones, thousands apart, yes and no."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"  # noqa: RUF001
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if 10**digits <= abs(value) < 1e6 or (value.is_integer() and 1e4 <= abs(value) < 1e15):
            return f"{value:,.0f}"
        return f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:.3e}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, value))
    return str(value)


def short(value: Any, digits: int = 3) -> str:
    """As `text`, with large numbers as 1.3M, to `digits` significant ones."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1e4 <= abs(value) < 1e18:
        power = next(power for power in (15, 12, 9, 6, 3) if abs(value) >= 10**power)
        return f"{value / 10**power:.{digits}g}{'kMGTP'[power // 3 - 1]}"
    return text(value)


def label(name: str) -> str:
    """A metric or column in words, with its unit: `val/loss` is `validation loss (nats)`."""
    split, _, rest = name.rpartition("/")
    words = _LABELS.get(rest, rest)
    return (
        " ".join(part for part in (_SPLITS.get(split, split), words) if part)
        .replace("_", " ")
        .replace("flops", "FLOPs")
    )


def ordered(results: Results) -> list[str]:
    """The names of the arms, those that have cells only by name last."""
    return list(dict.fromkeys([arm.name for arm in results.arms] + [cell.arm for cell in results.cells]))


def _arms(results: Results) -> list[Arm]:
    known = {arm.name: arm for arm in results.arms}
    return [known.get(name, Arm(name, {}, math.nan)) for name in ordered(results)]


def matched(results: Results) -> Table:
    """The arms as they were made comparable, and the learning rate chosen for each."""
    arms = _arms(results)
    shapes = list(dict.fromkeys(key for arm in arms for key in arm.shape))
    swept = any(arm.tried for arm in arms)
    columns = ["arm", *map(label, shapes), "learning rate"] + (["tried", "at the edge of its grid"] if swept else [])
    rows = []
    for arm in arms:
        row = [arm.name, *(arm.shape.get(key) for key in shapes), arm.learning_rate]
        rows.append((*row, *((list(arm.tried) or None, arm.at_edge) if swept else ())))
    return Table("arms", tuple(columns), tuple(rows))


def finals(results: Results, level: float = 0.95) -> Table:
    """The study's metric by arm: mean, Student's and bootstrap intervals, and the paired difference to the best."""
    names = ordered(results)
    measured = {name: metric_values(results, name) for name in names}
    fine = {name: [v for v in values.values() if math.isfinite(v)] for name, values in measured.items()}
    whole = {name: v for name, v in fine.items() if v and len(v) == len(measured[name])} or {
        name: v for name, v in fine.items() if v
    }
    sign = 1 if results.lower_is_better else -1
    best = min(whole, key=lambda name: sign * sum(whole[name]) / len(whole[name]), default=None)
    rows = []
    for name in names:
        t, b = t_interval(fine[name], level), bootstrap_interval(fine[name], level)
        shared = measured[best].keys() & measured[name].keys() if best else set()
        apart = [measured[name][s] - measured[best][s] for s in sorted(shared)] if best and name != best else []
        d = t_interval([x for x in apart if math.isfinite(x)], level)
        ends = (t.estimate, t.low, t.high, b.low, b.high, d.estimate, d.low, d.high)
        seconds = [cell.seconds for cell in results.cells if cell.arm == name and cell.phase == "seeds"]
        time = sum(seconds) / len(seconds) if seconds else math.nan
        rows.append((name, len(measured[name]), len(measured[name]) - len(fine[name]), *ends, time))
    percent = f"{level:.0%}"
    columns: tuple[str, ...] = (
        "arm",
        "seeds",
        "diverged",
        label(results.metric),
        f"{percent} from",
        "to",
        "bootstrap from",
        "to",
    )
    columns += ("difference to the best", f"{percent} from", "to", "seconds a seed")
    return Table("results", columns, tuple(rows))


DETAILS = ("tried", "at the edge of its grid", _LABELS["error"], "head dim", "hidden", _LABELS["non_embedding"])
"""Columns of the matched table that a terminal has no room for."""


def summary(results: Results) -> Table:
    """The main table, narrow enough for a terminal: what sets the arms apart, and the metric with its interval."""
    arms, found = matched(results), finals(results)
    keep = _apart(arms)
    lost, uneven = any(row[2] for row in found.rows), len({row[1] for row in found.rows}) > 1
    rows = []
    for arm, row in zip(arms.rows, found.rows, strict=True):
        mean, low, high = row[3:6]
        end = (mean, between(low, high), *((row[1],) if uneven else ()), *((row[2],) if lost else ()))
        rows.append((*(arm[index] for index in keep), *end))
    last: tuple[str, ...] = (label(results.metric), "95% interval")
    last += (*(("seeds",) if uneven else ()), *(("diverged",) if lost else ()))
    return Table("summary", (*(arms.columns[index] for index in keep), *last), tuple(rows))


def _apart(arms: Table) -> list[int]:
    """The columns of the matched table that tell its rows apart, and none that says what another says."""
    seen: set[tuple[Any, ...]] = set()
    keep = [0]
    for index, name in enumerate(arms.columns[1:], 1):
        values = tuple(row[index] for row in arms.rows)
        body = name == "parameters" and _LABELS["body"] in arms.columns
        if name not in DETAILS and not body and len(set(values)) > 1 and values not in seen:
            keep.append(index)
            seen.add(values)
    return keep


def between(low: float, high: float, digits: int = 4) -> str:
    """An interval as text."""
    return "–" if math.isnan(low) or math.isnan(high) else f"{text(low, digits)} to {text(high, digits)}"  # noqa: RUF001


def verdicts(results: Results) -> Table:
    """Every claim with its verdict, effect, interval and margin."""
    rows = []
    for fields in results.verdicts:
        v = Verdict.from_plain(fields)
        rows.append((v.claim, v.verdict, v.effect, v.estimate, v.low, v.high, v.p, v.margin, v.n, v.note))
    columns = ("claim", "verdict", "effect", "estimate", "from", "to", "p, corrected", "margin or bar", "seeds", "note")
    return Table("verdicts", columns, tuple(rows))


def cells(results: Results) -> Table:
    """Every trained replica with all of its final metrics."""
    names = list(dict.fromkeys(name for cell in results.cells for name in cell.metrics))
    rows = [
        (c.arm, c.phase, c.seed, c.learning_rate, c.status, c.seconds, *(c.metrics.get(name) for name in names))
        for c in results.cells
    ]
    return Table("cells", ("arm", "phase", "seed", "learning_rate", "status", "seconds", *names), tuple(rows))


def curves(results: Results) -> Table:
    """Every line of every curve."""
    names = list(
        dict.fromkeys(name for cell in results.cells for line in cell.curve for name in line if name != "step")
    )
    rows = [
        (c.arm, c.phase, c.seed, c.learning_rate, line.get("step"), *(line.get(name) for name in names))
        for c in results.cells
        for line in c.curve
    ]
    return Table("curves", ("arm", "phase", "seed", "learning_rate", "step", *names), tuple(rows))


def diagnostics(results: Results) -> Table:
    """Every per-layer number, layers counted from 1."""
    rows = [
        (c.arm, c.seed, name, layer, value)
        for c in results.cells
        for name, values in c.diagnostics.items()
        for layer, value in enumerate(values, 1)
    ]
    return Table("diagnostics", ("arm", "seed", "diagnostic", "layer", "value"), tuple(rows))


def paper(results: Results) -> Table:
    """Published rows; those that name an arm have what was measured here beside them."""
    names = list(dict.fromkeys(name for row in results.paper for name in row))
    found = {row[0]: row for row in finals(results).rows}
    here = any(row.get("arm") in found for row in results.paper)
    rows: list[tuple[Any, ...]] = []
    for row in results.paper:
        mine = found.get(str(row.get("arm")))
        measured = (mine[3], between(mine[4], mine[5])) if mine else (None, None)
        rows.append((*(row.get(name) for name in names), *(measured if here else ())))
    columns = (*map(label, names), *((f"here: {label(results.metric)}", "here: 95% interval") if here else ()))
    return Table("paper", columns, tuple(rows))


def provenance(results: Results) -> Table:
    """Dotted name and value."""
    return Table("provenance", ("what", "value"), tuple(_flat(results.provenance, "")))


def _flat(node: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(node, Mapping):
        return [row for key, value in node.items() for row in _flat(value, f"{path}.{key}" if path else str(key))]
    listed = isinstance(node, Sequence) and not isinstance(node, str)
    return [(path, ", ".join(map(str, node)) if listed else str(node))]

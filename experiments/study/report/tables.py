"""The tables of a report: rows of plain values from a `Results`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study.claims.measured import metric_values
from experiments.study.claims.statistics import bootstrap_interval, t_interval
from experiments.study.claims.verdicts import Verdict
from experiments.study.report import counted
from experiments.study.report.table import LABELS, Table, between, label
from experiments.study.results import Arm, Results


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
    """The study's metric by arm: mean, Student's and bootstrap intervals, and the paired difference to the best.

    Below the arms stands what counting reaches.
    """
    names = ordered(results)
    measured = {name: metric_values(results, name) for name in names}
    fine = {name: [v for v in values.values() if math.isfinite(v)] for name, values in measured.items()}
    whole = {name: v for name, v in fine.items() if v and len(v) == len(measured[name])} or {
        name: v for name, v in fine.items() if v
    }
    sign = 1 if results.lower_is_better else -1
    best = min(whole, key=lambda name: sign * sum(whole[name]) / len(whole[name]), default=None)
    rows: list[tuple[Any, ...]] = []
    for name in names:
        t, b = t_interval(fine[name], level), bootstrap_interval(fine[name], level)
        shared = measured[best].keys() & measured[name].keys() if best else set()
        apart = [measured[name][s] - measured[best][s] for s in sorted(shared)] if best and name != best else []
        d = t_interval([x for x in apart if math.isfinite(x)], level)
        ends = (t.estimate, t.low, t.high, b.low, b.high, d.estimate, d.low, d.high)
        seconds = [cell.seconds for cell in results.cells if cell.arm == name and cell.phase == "seeds"]
        time = sum(seconds) / len(seconds) if seconds else math.nan
        rows.append((name, len(measured[name]), len(measured[name]) - len(fine[name]), *ends, time))
    rows += [(name, None, None, value, *[None] * 8) for name, value in counted.rows(results)]
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


DETAILS = ("tried", "at the edge of its grid", LABELS["error"], "head dim", "hidden", LABELS["non_embedding"])
"""Columns of the matched table that a terminal has no room for."""


def summary(results: Results) -> Table:
    """The main table, narrow enough for a terminal: what sets the arms apart, and the metric with its interval."""
    arms, found = matched(results), finals(results)
    keep = _apart(arms)
    of_arms = found.rows[: len(arms.rows)]
    lost, uneven = any(row[2] for row in of_arms), len({row[1] for row in of_arms}) > 1
    rows = []
    for arm, row in zip(arms.rows, of_arms, strict=True):
        mean, low, high = row[3:6]
        end = (mean, between(low, high), *((row[1],) if uneven else ()), *((row[2],) if lost else ()))
        rows.append((*(arm[index] for index in keep), *end))
    blank = [None] * (len(keep) - 1)
    rows += [(name, *blank, value, "", *[None] * (uneven + lost)) for name, value in counted.rows(results)]
    last: tuple[str, ...] = (label(results.metric), "95% interval")
    last += (*(("seeds",) if uneven else ()), *(("diverged",) if lost else ()))
    return Table("summary", (*(arms.columns[index] for index in keep), *last), tuple(rows))


def _apart(arms: Table) -> list[int]:
    """The columns of the matched table that tell its rows apart, and none that says what another says."""
    seen: set[tuple[Any, ...]] = set()
    keep = [0]
    for index, name in enumerate(arms.columns[1:], 1):
        values = tuple(row[index] for row in arms.rows)
        body = name == "parameters" and LABELS["body"] in arms.columns
        if name not in DETAILS and not body and len(set(values)) > 1 and values not in seen:
            keep.append(index)
            seen.add(values)
    return keep


def verdicts(results: Results) -> Table:
    """Every claim with its verdict, effect, interval and margin."""
    rows = []
    for fields in results.verdicts:
        v = Verdict.from_plain(fields)
        numbers = (v.estimate, v.low, v.high, v.level, v.p, v.margin, v.n)
        rows.append((v.claim, v.role, v.verdict, v.effect, *numbers, ", ".join(v.errors), v.note))
    ends = ("estimate", "from", "to", "level", "p, corrected", "margin or bar", "seeds")
    columns = ("claim", "role", "verdict", "effect", *ends, "errors", "note")
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

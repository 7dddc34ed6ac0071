"""A study as one HTML page that needs nothing else: text, tables with their CSV files, and plots as inline SVG."""

from __future__ import annotations

import base64
import html
import math
import string
from collections.abc import Sequence
from pathlib import Path

from experiments.study.claims.verdicts import Verdict
from experiments.study.report import counted, tables
from experiments.study.report.exhibited import matrices
from experiments.study.report.head import head
from experiments.study.report.scores import scores
from experiments.study.report.table import Table, between, label, text
from experiments.study.results import Results
from experiments.study.sweeps.rates import rates
from experiments.study.work.registration import lines

TEMPLATE = Path(__file__).with_name("page.html")
EMBEDDED = 150_000
"""Bytes of a table that are still kept in the page itself: together they stay far below 2 MB."""

_SIGNS = {"supported": "✓", "not supported": "✗", "undecided": "?"}

Figure = tuple[str, str, str, str]
"""Section, title, caption and inline SVG of a plot."""


def page(results: Results, figures: Sequence[Figure]) -> str:
    """The whole page. Sections without numbers are left out."""
    parts = [
        ("verdicts", "Verdicts", _verdicts(results)),
        ("arms", "The arms, as matched", _table(tables.matched(results), _matching(results))),
        ("results", "Results", _plots(figures, "results") + _table(tables.finals(results), _RESULTS)),
        ("scores", "Scores of the suite", _table(scores(results), "Means over seeds.") if scores(results).rows else ""),
        ("curves", "Learning curves", _plots(figures, "curves")),
        ("sweep", "Learning rates", _plots(figures, "sweep") + _table(rates(results), "")),
        ("shape", "Depth and width", _plots(figures, "shape")),
        ("cost", "Cost and quality", _plots(figures, "cost")),
        ("diagnostics", "Layer by layer", _layers(figures)),
        ("shown", "What the scores show", _plots(figures, "shown")),
        ("paper", "Beside the published numbers", _table(tables.paper(results), "") if results.paper else ""),
        ("notes", "Notes", _list([*results.notes, *_looks(results), *lines(results.registration)])),
        ("provenance", "Provenance", _table(tables.provenance(results), "") if results.provenance else ""),
        ("data", "Data", _files(results)),
    ]
    shown = [part for part in parts if part[2]]
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        head=head(results.name),
        name=html.escape(results.name),
        question=html.escape(results.question),
        summary=html.escape(_summary(results)),
        links=" ".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, title, _ in shown),
        sections="\n".join(
            f'<section id="{key}">\n<h2>{html.escape(title)}</h2>\n{body}\n</section>' for key, title, body in shown
        ),
    )


_RESULTS = (
    "Intervals are at 95%: Student's, over seeds alone, and the bias-corrected bootstrap from 20 seeds on, below which "
    "it is too narrow. Differences to the best arm are paired by seed and not corrected for their number; the verdicts "
    "are. Below the arms stands what counting reaches: a claim of arms that do not beat the bar is not decided."
)


def _looks(results: Results) -> list[str]:
    """What was seen while seeds were added."""
    if len(results.looks) < 2 and results.level <= 0.95:
        return []
    told = "; ".join(f"{look['seeds']} seeds: {', '.join(look['verdicts'])}" for look in results.looks)
    return [f"Seeds were added until the study was decided, each look at level {results.level:.4g}. {told}."]


def _summary(results: Results) -> str:
    arms = tables.ordered(results)
    counts = sorted({sum(c.arm == arm and c.phase == "seeds" for c in results.cells) for arm in arms})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
    tuned = sum(cell.phase == "tune" for cell in results.cells)
    lost = sum(cell.status == "diverged" for cell in results.cells)
    parts = [
        f"{len(arms)} {'arm' if len(arms) == 1 else 'arms'}",
        f"{seeds} {'seed' if seeds == '1' else 'seeds'} each",
    ]
    parts += [f"{tuned} sweep runs"] if tuned else []
    parts += [f"{lost} diverged"] if lost else []
    parts.append(f"{label(results.metric)}, {'lower' if results.lower_is_better else 'higher'} is better")
    parts += [results.basis] if results.basis else []
    minutes = sum(cell.seconds for cell in results.cells) / 60
    return " · ".join(parts + ([f"{minutes:,.1f} minutes of training"] if minutes else []))


def _matching(results: Results) -> str:
    edges = [arm.name for arm in results.arms if arm.at_edge]
    if not edges:
        return ""
    who = ", ".join(edges) if len(edges) < len(results.arms) or len(edges) == 1 else "every arm"
    return f"The learning rate chosen for {who} is at the edge of its grid: a better one may lie outside."


def _verdicts(results: Results) -> str:
    verdicts = [Verdict.from_plain(fields) for fields in results.verdicts]
    if not verdicts:
        return ""
    cards = "\n".join(map(_card, verdicts))
    how = (
        "A claim is supported if the effect lies inside the range that the claim asks for (shaded), not supported if "
        "it lies outside, and undecided where that is not known. The primary claim is tested first, at full level; "
        "the others only if it is decided, by Holm's method, which may decide where the interval shown still touches "
        "an end: it is wide enough to hold together with those of all other secondary claims. Intervals speak of the "
        "errors that each names: other seeds, other rows of such data, other choices of learning rates. A bar is no "
        "test."
    )
    below = "".join(f"<p>{html.escape(line)}</p>" for line in counted.unbeaten(results))
    return f'{below}<div class="verdicts">\n{cards}\n</div>\n<p class="soft">{how}</p>'


def _card(verdict: Verdict) -> str:
    fact = ""
    if not math.isnan(verdict.estimate):
        fact = f"{verdict.effect}: {text(verdict.estimate, 3)}"
        if math.isfinite(verdict.estimate) and not math.isnan(verdict.low):
            what = "range over seeds" if math.isnan(verdict.level) else f"{100 * verdict.level:.3g}% interval"
            fact += f" ({what} {between(verdict.low, verdict.high, 3)})"
        fact += f"; claimed: {_wanted(*verdict.wanted)}."
        fact = fact[0].upper() + fact[1:] if fact.startswith("improvement") else fact
    small = [f"{'margin' if fact.startswith('Improvement') else 'bar'} {text(verdict.margin)}"]
    small.append(f"{verdict.n} {'seed' if verdict.n == 1 else 'seeds'}")
    small += [f"p = {text(verdict.p, 2)}"] if not math.isnan(verdict.p) else []
    small += [f"errors of {', '.join(verdict.errors)}"] if verdict.errors else []
    small += [verdict.note] if verdict.note else []
    tone = verdict.verdict.replace(" ", "-")
    role = f", {verdict.role}" if verdict.role != "secondary" else ""
    return (
        f'<article class="verdict {html.escape(tone)}"><div>'
        f'<p class="word">{_SIGNS.get(verdict.verdict, "")} {html.escape(verdict.verdict + role)}</p>'
        f'<p class="claim">{html.escape(verdict.claim)}</p>'
        + (f"<p>{html.escape(fact)}</p>" if fact else "")
        + f'<p class="soft">{html.escape(" · ".join(small))}</p></div>{_strip(verdict)}</article>'
    )


def _wanted(low: float, high: float) -> str:
    if math.isinf(high):
        return f"more than {text(low)}"
    return f"{text(low)} to {text(high)}" if math.isfinite(low) and low != 0 else f"at most {text(high)}"


def _strip(verdict: Verdict) -> str:
    """The interval on a line, with the wanted range shaded: 352 by 54 units."""
    drawn = [verdict.low, verdict.estimate, verdict.high]
    if not all(map(math.isfinite, drawn)):
        return ""
    ends = [end for end in verdict.wanted if math.isfinite(end)]
    ticks = dict.fromkeys([*ends, *([0.0] if verdict.effect.startswith("improvement") else [])])
    low, high = min(*drawn, *ticks), max(*drawn, *ticks)
    room = 0.12 * ((high - low) or abs(high) or 1.0)
    low, high = low - room, high + room

    def x(value: float) -> float:
        return round(352 * (min(max(value, low), high) - low) / (high - low), 2)

    left, right = x(verdict.wanted[0]), x(verdict.wanted[1])
    lines = [f'<rect x="{left}" y="6" width="{round(right - left, 2)}" height="24" fill="var(--band)"/>']
    lines.append('<line x1="0" x2="352" y1="30" y2="30" stroke="var(--soft)" stroke-width="1"/>')
    last = -math.inf
    for tick in sorted(ticks):
        at = min(max(x(tick), 14), 338)
        lines.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="6" y2="34" stroke="var(--soft)" stroke-width="1"/>')
        if at - last > 44:
            lines.append(
                f'<text x="{at}" y="48" text-anchor="middle" font-size="12" fill="var(--soft)">{text(tick)}</text>'
            )
            last = at
    a, b, mean = x(verdict.low), x(verdict.high), x(verdict.estimate)
    lines.append(f'<line x1="{a}" x2="{b}" y1="18" y2="18" stroke="var(--mark)" stroke-width="3"/>')
    lines += [f'<line x1="{at}" x2="{at}" y1="13" y2="23" stroke="var(--mark)" stroke-width="2"/>' for at in (a, b)]
    lines.append(f'<circle cx="{mean}" cy="18" r="5" fill="var(--mark)"/>')
    return f'<svg class="strip" viewBox="0 0 352 54" role="img" aria-label="the interval">{"".join(lines)}</svg>'


def _table(table: Table, caption: str) -> str:
    said = f'<p class="soft">{html.escape(caption)}</p>' if caption else ""
    return f'{table.html()}\n{said}<p class="files">{_download(table)}</p>' if table.rows else ""


def _download(table: Table) -> str:
    """The table's file: within the page, or, where that is large, the one that is written beside it."""
    if len(content := table.csv().encode()) > EMBEDDED:
        return f'<a href="tables/{table.name}.csv">tables/{table.name}.csv</a> (beside this page)'
    packed = base64.b64encode(content).decode()
    return f'<a download="{table.name}.csv" href="data:text/csv;charset=utf-8;base64,{packed}">{table.name}.csv</a>'


def _plots(figures: Sequence[Figure], section: str) -> str:
    mine = [figure for figure in figures if figure[0] == section]
    captions = dict.fromkeys(caption for _, _, caption, _ in mine if caption)
    body = "\n".join(
        f"<figure><h3>{html.escape(title)}</h3>{svg}"
        + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption and len(captions) > 1 else "")
        + "</figure>"
        for _, title, caption, svg in mine
    )
    said = "".join(f'<p class="soft">{html.escape(caption)}</p>' for caption in captions) if len(captions) == 1 else ""
    return f'<div class="plots">\n{body}\n</div>\n{said}' if mine else ""


def _layers(figures: Sequence[Figure]) -> str:
    body = _plots(figures, "diagnostics")
    said = "Layers are counted from 1. Mean over seeds; the band is from the lowest to the highest seed."
    return f'{body}<p class="soft">{said}</p>' if body else ""


def _list(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def every_table(results: Results) -> list[Table]:
    """All numbers of the results, as tables that are not empty."""
    found = [tables.summary(results), tables.verdicts(results), tables.matched(results), tables.finals(results)]
    found += [
        scores(results),
        rates(results),
        tables.paper(results),
        tables.cells(results),
        tables.curves(results),
        tables.diagnostics(results),
        matrices(results),
    ]
    return [table for table in (*found, tables.provenance(results)) if table.rows]


def _files(results: Results) -> str:
    links = "".join(f"<li>{_download(table)}: {len(table.rows):,} rows</li>" for table in every_table(results))
    return f'<ul class="files">{links}</ul>'

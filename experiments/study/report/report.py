"""The report of a study, from its `Results` alone: a page, tables as CSV, plots as PNG and SVG, and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from experiments.study.claims.verdicts import Verdict
from experiments.study.report import counted, tables
from experiments.study.report.page import every_table, page
from experiments.study.report.plot import Plot
from experiments.study.report.plots import plots
from experiments.study.report.style import png, style
from experiments.study.report.svg import inline, svg
from experiments.study.report.table import between, text
from experiments.study.results import Results
from experiments.study.work.registration import lines
from train.record.confined import confined

WRITTEN = ("report.html", "results.json", "tables", "plots")
"""What is written into the folder of a report."""

_TONES = {"supported": "green", "not supported": "red", "undecided": "yellow"}


def write_report(results: Results, folder: Path | str) -> Path:
    """Writes `report.html`, `tables/*.csv` and `plots/*.png, *.svg` into `folder`; the page's path.

    Equal results give equal bytes: there is no time, random name or machine in any file. Raises UserError where one of
    them is a link out of the folder.
    """
    confined(folder, *WRITTEN)
    figures = []
    with style():
        for plot, drawn in _write(results, Path(folder)):
            (Path(folder) / "plots" / f"{plot.name}.png").write_bytes(png(plot.figure))
            figures.append((plot.section, plot.title, plot.caption, inline(drawn, plot.name, plot.title)))
    path = Path(folder) / "report.html"
    path.write_text(page(results, figures), encoding="utf-8")
    return path


def write_kept(results: Results, folder: Path | str) -> None:
    """Writes what a repository keeps into `folder`: `results.json`, `tables/*.csv` and `plots/*.svg`."""
    confined(folder, *WRITTEN)
    with style():
        list(_write(results, Path(folder)))
    (Path(folder) / "results.json").write_text(results.to_json(), encoding="utf-8")


def _write(results: Results, folder: Path) -> Iterator[tuple[Plot, str]]:
    """Writes tables and plots; each plot with its SVG. Within `style()`."""
    for name in ("tables", "plots"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for table in every_table(results):
        (folder / "tables" / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
    for plot in plots(results):
        drawn = svg(plot.figure)
        (folder / "plots" / f"{plot.name}.svg").write_text(drawn, encoding="utf-8")
        yield plot, drawn


def terminal_table(results: Results) -> RenderableType:
    """The main table and the verdicts, for `rich.print`."""
    table = tables.summary(results)
    metric = table.columns.index("95% interval") - 1
    counts = sorted({len(results.values(arm)) for arm in tables.ordered(results)})
    seeds = " to ".join(map(str, dict.fromkeys((*counts[:1], *counts[-1:]))))
    shown: list[RenderableType] = [Text(results.question, style="bold")]
    shown.append(table.rich(whole=(metric, metric + 1)))
    basis = f"; {results.basis}" if results.basis else ""
    shown.append(Text(f"{seeds or 0} seed{'' if seeds == '1' else 's'} an arm{basis}\n", style="dim"))
    shown += [Text(f"{line}\n", style="yellow") for line in counted.unbeaten(results)]
    shown += [Text(f"{line}\n", style="dim") for line in list(lines(results.registration))[1:]]
    for fields in results.verdicts:
        verdict = Verdict.from_plain(fields)
        line = Text(verdict.verdict, style=f"bold {_TONES.get(verdict.verdict, '')}")
        role = f", {verdict.role}" if verdict.role != "secondary" else ""
        line.append(f"{role}: {verdict.claim}", style="not bold default")
        if verdict.n:
            ends = f" ({between(verdict.low, verdict.high, 3)})" if math.isfinite(verdict.estimate) else ""
            line.append(f"\n  {verdict.effect}: {text(verdict.estimate, 3)}{ends}", style="not bold default")
        if verdict.note:
            line.append(f"\n  {verdict.note}", style="not bold dim")
        shown.append(line)
    return Group(*shown)

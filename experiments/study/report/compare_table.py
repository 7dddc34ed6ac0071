"""The verb `compare`: runs side by side in the terminal, and as a report where one is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.study.claims.statistics import t_interval
from experiments.study.claims.verdicts import Verdict
from experiments.study.compare import Found, best_of, changed, gather
from experiments.study.results import Results

DIFFERENCES = 12
"""Lines of an arm's differences that are shown; the report of its folder, config.txt, has all."""


def compare(
    folders: Sequence[str], out: str | None = None, metric: str | None = None, *, trust: bool = False
) -> Results:
    """Prints the runs in `folders` side by side; the report of them goes into the folder `out`. `trust`: as of
    `render.read`.

    Raises:
      ConfigError: a line for each folder that is no run or does not compare with the first.
    """
    results, arms = gather(folders, metric, trust=trust)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table(results, arms), markup=False)
    console.print()
    console.print(runs_table(results, arms), markup=False)
    for line in text(results, arms):
        console.print(line, markup=False)
    if out is not None:
        from experiments.study.report.report import write_report

        page = write_report(results, Path(out))
        (Path(out) / "results.json").write_text(results.to_json())
        console.print(f"\nreport       {page}", markup=False)
    return results


def table(results: Results, arms: Mapping[str, Sequence[Found]]) -> Table:
    """A row for each arm: its costs, and the mean and 95 % interval of the metric over its seeds."""
    better = "lower" if results.lower_is_better else "higher"
    made = Table(title=f"{results.metric}, {better} is better", title_justify="left", box=None, pad_edge=False)
    made.add_column("arm", overflow="fold")
    for name in ("seeds", "steps", "parameters", "FLOPs", "final", "± (95 %)", "best"):
        made.add_column(name, justify="right", no_wrap=True)
    for arm in results.arms:
        values = list(results.values(arm.name).values())
        best = best_of([v for run in arms[arm.name] for v in run.along(results.metric)], results.lower_is_better)
        spread = t_interval(values, 0.95) if len(values) > 1 and all(map(math.isfinite, values)) else None
        made.add_row(
            arm.name,
            str(len(values)),
            f"{arm.shape['steps']:,}",
            f"{arm.shape['parameters']:,}" if "parameters" in arm.shape else "-",
            f"{arm.shape['total_flops']:.3g}" if "total_flops" in arm.shape else "-",
            "diverged" if any(map(math.isnan, values)) else f"{sum(values) / len(values):.4f}",
            "-" if spread is None else f"{spread.high - spread.estimate:.4f}",
            f"{best:.4f}",
        )
    return made


def runs_table(results: Results, arms: Mapping[str, Sequence[Found]]) -> Table:
    """A row for each run."""
    made = Table(box=None, pad_edge=False)
    for name in ("run", "arm"):
        made.add_column(name, overflow="fold")
    for name in ("seed", "step", "final", "best"):
        made.add_column(name, justify="right")
    for name, runs in arms.items():
        for run in runs:
            values = run.along(results.metric)
            final = "diverged" if run.diverged else f"{values[-1]:.4f}"
            best = f"{best_of(values, results.lower_is_better):.4f}"
            made.add_row(run.folder, name, str(run.run.seed), f"{run.step:,}/{run.run.steps:,}", final, best)
    return made


def text(results: Results, arms: Mapping[str, Sequence[Found]]) -> list[str]:
    """What differs, what was decided, and what a reader has to know, in lines."""
    first = results.arms[0].name
    lines = []
    for name, changes in changed(arms).items():
        lines.append(f"\n{name}, against {first}:")
        lines += [f"  {line}" for line in changes[:DIFFERENCES]] or ["  nothing but the seed, the code or the machine"]
        if len(changes) > DIFFERENCES:
            lines.append(f"  and {len(changes) - DIFFERENCES} more; see config.txt in the run folders")
    if results.verdicts:
        lines.append("")
    lines += [_said(Verdict.from_plain(dict(plain))) for plain in results.verdicts]
    if len(results.arms) > 1 and not results.verdicts:
        lines.append("\nOne seed says nothing about the noise: runs with other seeds turn this into a verdict.")
    return [*lines, *(f"note: {note}" for note in results.notes)]


def _said(verdict: Verdict) -> str:
    found = f"improvement {verdict.estimate:+.4f}, {verdict.low:+.4f} to {verdict.high:+.4f}, over {verdict.n} seeds"
    return f"{verdict.verdict}: {verdict.claim}\n  {found}{'; ' if verdict.note else ''}{verdict.note}"

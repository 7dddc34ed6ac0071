"""Progress bars for the slow first use of a data set: fetching, preparing, tokenising."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from train.data.base import Progress, silent


@contextlib.contextmanager
def bars(progress: Progress | None = None) -> Iterator[Progress]:
    """`progress` itself if given; else bars on standard error if that is a terminal, and nothing if it is not."""
    if progress is not None or not sys.stderr.isatty():
        yield progress or silent
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(show_speed=True),
        rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as display:
        tasks: dict[str, rich_progress.TaskID] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what, total=total)
            display.update(tasks[what], completed=done, total=total)

        yield report

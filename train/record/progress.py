"""What a run shows while it trains: a bar in a terminal, plain lines anywhere else.

    step 120/2000  loss 2.3456  51,200 tokens/s  MFU 41.2%  1:23 left

It only shows what it is given; metrics do not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text


class Progress:
    """Progress over the steps of a run; use it as a context.

    Args:
      steps: the steps of the whole run.
      start: the step that the run starts or resumes from.
      every: seconds between plain lines when the console is no terminal.
      console: where to show; None for standard output.
      enabled: False shows nothing, for the processes of a pod other than the first.
      clock: seconds; for tests.
    """

    def __init__(
        self,
        steps: int,
        *,
        start: int = 0,
        every: float = 10.0,
        console: Console | None = None,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._steps, self._every, self._enabled, self._clock = steps, every, enabled, clock
        # Plain lines go where nobody wraps or colours them: a log.
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._first: tuple[int, float] | None = None
        self._shown = -float("inf")
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if enabled and self._console.is_terminal:
            self._bar = Bar(BarColumn(bar_width=24), TextColumn("{task.description}"), console=self._console)
            self._task = self._bar.add_task(f"step {start:,}/{steps:,}", total=steps, completed=start)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(
        self, step: int, *, loss: float, tokens_per_second: float | None = None, mfu: float | None = None
    ) -> None:
        """Shows the state after `step` steps. `mfu` is from 0 to 1; None shows none."""
        if not self._enabled:
            return
        now = self._clock()
        if self._first is None:
            # The clock for the time left starts after the first step, which compiles.
            self._first = (step, now)
        line = self._line(step, now, loss, tokens_per_second, mfu)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=line)
        elif now - self._shown >= self._every or step >= self._steps:
            self._print(line)
            self._shown = now

    def note(self, line: str) -> None:
        """Prints a line of its own, above the bar if there is one: an evaluation, a checkpoint."""
        if self._enabled:
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _line(self, step: int, now: float, loss: float, tokens_per_second: float | None, mfu: float | None) -> str:
        parts = [f"step {step:,}/{self._steps:,}", f"loss {loss:.4f}"]
        if tokens_per_second is not None:
            parts.append(f"{tokens_per_second:,.0f} tokens/s")
        if mfu is not None:
            parts.append(f"MFU {mfu:.1%}")
        left = self._seconds_left(step, now)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return "  ".join(parts)

    def _seconds_left(self, step: int, now: float) -> float | None:
        if self._first is None or step <= self._first[0]:
            return None
        first, since = self._first
        return (now - since) / (step - first) * (self._steps - step)


def duration(seconds: float) -> str:
    """`0:05`, `12:34`, `1:02:03` or `3d 4:05:06`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{days}d {clock}" if days else clock

"""Executors: where the tasks of a study run. One after the other in this process, or on the machines of a Ray cluster.

A task is text (`tasks.to_task`), the work a function of a module (`tasks.work`) that takes it and leaves its result in
the folder of the study. The work is idempotent and resumable: doing a task again does what is missing of it, which may
be nothing. So an executor returns no results, only what failed; all else is in the folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from arch.spec import SpecError, UserError
from experiments.config.errors import one_line

Work = Callable[[str], None]
Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Failure:
    """A task that cannot be done: its place among the tasks, and why, in one line."""

    index: int
    line: str


class Executor(Protocol):
    """Does tasks."""

    def run(self, tasks: Sequence[str], work: Work, note: Note) -> list[Failure]:
        """Does `work(task)` for every task.

        A mistake of the user's in one task (UserError, SpecError) does not stop the others. Any other error, Ctrl-C
        and SIGTERM stop all; what was finished by then stays in the folder.

        Args:
          tasks: as text.
          work: a function of a module; other machines import it by its name.
          note: called with a line on each failure at once, and on what else goes on.

        Returns:
          The tasks that failed, in the order of the tasks.
        """
        ...


class InProcess:
    """One task after the other, here."""

    def run(self, tasks: Sequence[str], work: Work, note: Note) -> list[Failure]:
        failures = []
        for index, task in enumerate(tasks):
            line = attempt(work, task)
            if line is not None:
                failures.append(Failure(index, line))
                note(f"task {index + 1} of {len(tasks)}: {line}")
        return failures


def attempt(work: Work, task: str) -> str | None:
    """Does one task; the line of a mistake of the user's, None if it was done."""
    try:
        work(task)
    except (UserError, SpecError) as error:
        return one_line(error)
    return None

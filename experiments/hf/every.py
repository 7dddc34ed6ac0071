"""A training that exports every so many steps: the hook of `launch.py train --export_every`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from arch.spec import SpecError, UserError
from experiments.hf.export import Options, export_opened
from train.data.base import silent
from train.trained import TrainedRun

FOLDER = "export"


@dataclasses.dataclass(frozen=True)
class ExportEvery:
    """Exports after every `every` steps and after the last, into `to`/STEP. One that fails is one line, and the
    training goes on; one that is there already stays.

    Attributes:
      every: steps.
      folder: of the run, for its metrics.
      to: the folder of the exports.
      options: how they are written.
    """

    every: int
    folder: Path
    to: Path
    options: Options = Options()

    @classmethod
    def into(cls, every: int, folder: str, to: str | None, options: Options = Options()) -> ExportEvery:
        """Of the run in `folder`; `to`: None: a folder in there.

        Raises:
          UserError: several processes, none of which has all the numbers, or a run folder of a store.
        """
        if jax.process_count() > 1:
            raise UserError("--export_every: one process must have all numbers; export RUN_FOLDER after the training")
        if to is None and "://" in folder:
            raise UserError(f"--export_every: {folder} is in a store; give a folder here by --to=FOLDER")
        return cls(every, Path(folder), Path(folder) / FOLDER if to is None else Path(to), options)

    def due(self, step: int, steps: int) -> bool:
        """Whether `step` is one of them."""
        return step % self.every == 0 or step == steps

    def __call__(self, opened: TrainedRun, note: Callable[[str], None]) -> None:
        """Writes one, and says so."""
        to = self.to / str(opened.step)
        if to.exists():
            return
        try:
            export_opened(opened, self.folder, to, self.options, lambda line: None, progress=silent)
        except Exception as error:  # whatever it is, it is no reason to lose a training
            told = str(error) if isinstance(error, (UserError, SpecError)) else f"{type(error).__name__}: {error}"
            note(f"step {opened.step:,}: not exported, the training goes on: {' '.join(told.split())}")
            return
        note(f"step {opened.step:,}: exported to {to}")

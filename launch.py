"""Strata's one program: trains, generates, evaluates and inspects what a configuration file describes.

python launch.py train --config=experiments/FILE.py[:FORM] [--config.model.depth=12 ...] [--run_folder=...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags

from arch.spec import SpecError, UserError
from experiments.config import golden, render
from experiments.config.errors import spec_error_lines
from experiments.config.flags import Command, parser
from experiments.config.load import split

RUN_FOLDER = flags.DEFINE_string("run_folder", None, "Where the run is kept, also gs://. Default: runs/FILE.FORM.")
DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")

MAY_CHANGE = ("mesh", "reports")  # fields of a run that can differ when it is resumed


def train(command: Command) -> None:
    """Trains in the run folder, or goes on there with the same configuration."""
    import jax
    from train.loop import train

    folder = run_folder(command)
    changed = [line for line in render.changes(folder, command.spec) if not line.startswith(MAY_CHANGE)]
    if changed:
        raise UserError(f"{folder} holds a run of another configuration; name another --run_folder, or undo\n  "
                        + "\n  ".join(changed))  # fmt: skip
    if jax.process_index() == 0:
        render.write(folder, command.spec, command.original, command.reference)
    train(command.spec, folder)


def inspect(command: Command) -> None:
    """Shows the resolved configuration, and the parameters of each model in it."""
    from rich.console import Console

    console = Console()
    console.print(render.pretty(command.spec, command.original))
    for heading, table in golden.tables(command.spec):
        console.print(f"\n{heading}", style="bold", highlight=False)
        console.print(table, markup=False, highlight=False, soft_wrap=True, end="")


VERBS: dict[str, tuple[Callable[[Command], Any], str]] = {
    "train": (train, "train a model, or go on with the run in --run_folder"),
    "inspect": (inspect, "show the configuration and the parameters, without training"),
}


def run_folder(command: Command) -> str:
    """The folder of the run: as given, else named after the file and form."""
    file, form = split(command.reference)
    return RUN_FOLDER.value or str(Path("runs") / ".".join(filter(None, (Path(file).stem, form))))


def main(command: Command) -> int:
    try:
        VERBS[command.verb][0](command)
    except (UserError, SpecError) as error:
        if DEBUG.value:
            raise
        lines = str(error).splitlines()
        if isinstance(error, SpecError):
            lines = spec_error_lines(error, command.spec, command.given)
        print("\n".join(lines), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parser({verb: what for verb, (_, what) in VERBS.items()}))

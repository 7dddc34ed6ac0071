"""The folder of a study: is it new, this study's, or something else's?

`study.json` marks it, and is written before anything else; what was registered is in it too (`registration.py`). A
study that has grown (more seeds, another arm) goes on in its folder; one that asks something else would write its
report over the other's, so that is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

from arch.spec import UserError
from experiments.study.study import Study
from experiments.study.work.cells import write
from train.record import folder as run_folder

FILE = "study.json"


def claim(folder: Path, study: Study) -> None:
    """Makes `folder` that of `study`, or finds that it is.

    Raises:
      UserError: it holds a run, another study or something else, or cannot be written.
    """
    if (folder / run_folder.FILE).exists():
        raise UserError(f"{folder}: is the folder of a run; give another --run_folder for the study")
    if run_folder.holds(folder, FILE, "study"):
        asked = _question(folder / FILE)
        if asked != study.question:
            raise UserError(f"{folder}: holds the study {asked!r}; give another folder for {study.question!r}")
        return
    try:
        write(folder / FILE, json.dumps({"format": 1, "question": study.question}, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _question(file: Path) -> str:
    try:
        return json.loads(file.read_text())["question"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read ({error!r}); give another folder for the study") from error

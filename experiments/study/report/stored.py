"""The verb `report`: the page of a study from the `results.json` in its folder, trained here or committed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arch.spec import UserError
from experiments.config.errors import ConfigError, one_line
from experiments.study.report.report import terminal_table, write_report
from experiments.study.results import Results
from experiments.study.work import folder as study_folder
from train.record import folder as run_folder

FILE = "results.json"


def report(folders: Sequence[str], out: str | None = None) -> None:
    """Prints the table of each study in `folders` and writes its report: page, tables and plots.

    Args:
      folders: of studies.
      out: where to; of several studies, each into the folder of its name there. None: into the study's own.

    Raises:
      UserError: a line for each folder that holds no study, or a folder that cannot be written.
    """
    found: dict[Path, Results] = {}
    wrong = []
    for at in dict.fromkeys(map(Path, folders)):
        try:
            found[at] = read(at)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError(wrong)
    console = Console(soft_wrap=True, highlight=False)
    for at, target in _targets(list(found), out).items():
        try:
            page = write_report(found[at], target)
        except OSError as error:
            raise UserError(f"{target}: cannot be written: {error.strerror or error}; give another --out") from error
        console.print(terminal_table(found[at]))
        console.print(f"\nreport  {page}", markup=False)


def read(folder: Path) -> Results:
    """The results in the folder of a study. Raises UserError, one line, if it has none that can be read."""
    file = folder / FILE
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}; report takes the folder of a study, which has a {FILE}")
    if not file.exists():
        if (folder / run_folder.FILE).exists():
            raise UserError(f"{folder}: holds a run, not a study; python launch.py compare {folder} shows runs")
        if (folder / study_folder.FILE).exists():
            raise UserError(f"{folder}: this study has no {FILE} yet; train it to its end first")
        raise UserError(f"{folder}: has no {FILE}; report takes the folder of a study, which has one")
    try:
        return Results.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        told = f"{file}: cannot be read as the results of a study ({one_line(error)})"
        raise UserError(
            f"{told}; restore it, or run the study again in its folder, which trains nothing twice"
        ) from error


def _targets(folders: Sequence[Path], out: str | None) -> dict[Path, Path]:
    """Folder -> where its report goes. Raises UserError if two reports would be one."""
    if out is None:
        return {folder: folder for folder in folders}
    if len(folders) == 1:
        return {folders[0]: Path(out)}
    names = [folder.resolve().name for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--out={out}: two of the folders are named {twice}; report them one by one")
    return {folder: Path(out) / name for folder, name in zip(folders, names, strict=True)}

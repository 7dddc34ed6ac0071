"""Cells on disk: each finished replica is one file, named by what was trained.

    FOLDER/cells/HASH.json     a finished cell
    FOLDER/groups/HASH/        cells trained as one program: a run folder, and `group.json` once they are done

Two studies that share a folder of cells share what they have in common. A group writes all its results in one go,
before its cells are written: an interrupted group goes on as the same program, so its numbers are those of an
uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arch.spec import flatten, walk
from experiments.study.results import Cell, Phase, back, plain
from train.data.base import Data
from train.data.corpus import Source
from train.members import Members
from train.run import Run

FORMAT = 3  # raise it when what is kept of a cell changes
FREE = ("mesh", "reports.keep", "reports.checkpoint", "reports.prompt")
"""Fields that do not change what a cell measures."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells of one arm and phase, to be trained as one program.

    Attributes:
      arm, phase: as in `Cell`.
      run: the arm.
      rows: what each cell varies: path -> number.
      diagnostics: panels taken of every cell.
    """

    arm: str
    phase: Phase
    run: Run
    rows: tuple[Mapping[str, float], ...]
    diagnostics: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The name of each cell on disk."""
        return [key(Members((row,)).lone(self.run, 0), self.diagnostics) for row in self.rows]

    def key(self) -> str:
        """The name of the group on disk."""
        return _digest(self.names())

    def only(self, wanted: Iterable[str]) -> Group:
        """The group of those cells whose keys are `wanted`."""
        wanted = set(wanted)
        rows = tuple(row for row, key in zip(self.rows, self.names(), strict=True) if key in wanted)
        return dataclasses.replace(self, rows=rows)

    def cut(self, size: int) -> list[Group]:
        """Groups of at most `size` cells each."""
        parts = [self.rows[start : start + size] for start in range(0, len(self.rows), size)]
        return [dataclasses.replace(self, rows=rows) for rows in parts]


class Cells:
    """The cells of a folder, which is made when something is first written."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def load(self, group: Group) -> dict[str, Cell]:
        """Key -> cell of those that are finished, named as this group names them."""
        found = {}
        for name in group.names():
            path = self.folder / "cells" / f"{name}.json"
            if path.exists():
                cell = Cell(**back(json.loads(path.read_text())))
                found[name] = dataclasses.replace(cell, arm=group.arm, phase=group.phase)
        return found

    def group_folder(self, group: Group) -> Path:
        """Where a group is trained."""
        return self.folder / "groups" / group.key()

    def finish(self, group: Group, cells: Sequence[Cell]) -> None:
        """Keeps the results of a group: first all together, then cell by cell."""
        results = {key: plain(dataclasses.asdict(cell)) for key, cell in zip(group.names(), cells, strict=True)}
        write(self.group_folder(group) / "group.json", json.dumps(results, indent=1) + "\n")
        self._spread(results)

    def settle(self) -> None:
        """Writes the cells of groups that were finished when a process was killed."""
        for path in sorted((self.folder / "groups").glob("*/group.json")):
            results = json.loads(path.read_text())
            missing = {key: cell for key, cell in results.items() if not self._path(key).exists()}
            self._spread(missing)

    def _path(self, key: str) -> Path:
        return self.folder / "cells" / f"{key}.json"

    def _spread(self, results: Mapping[str, Any]) -> None:
        for key, cell in results.items():
            write(self._path(key), json.dumps(cell, indent=1) + "\n")


def key(run: Run, diagnostics: Sequence[str]) -> str:
    """The name of a cell: a hash of the run that it is, of the content that its data reads, and of what is looked at.

    Raises:
      UserError: data that is not there.
    """
    fields = {path: str(value) for path, value in flatten(run).items() if not path.startswith(FREE)}
    return _digest([FORMAT, fields, list(diagnostics), _contents(run.data)])


@functools.lru_cache(maxsize=64)
def _contents(data: Data) -> list[str]:
    """What the sources in `data` name as their content; read once a process."""
    return [part.identity() for _, part in walk(data) if isinstance(part, Source)]


def write(path: Path, text: str) -> None:
    """Writes a file in one go: a process killed here leaves the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(text)
    new.replace(path)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]

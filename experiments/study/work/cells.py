"""Cells on disk: each finished replica is one file, named by what was trained (`train.record.identity`).

    FOLDER/cells/WHAT.CODE.json    a finished cell: WHAT is its configuration and data, CODE what code trained it
    FOLDER/code/CODE.json          module -> digest of that code
    FOLDER/groups/HASH/            cells trained as one program: a run folder, and `group.json` once they are done

Two studies that share a folder of cells share what they have in common. A cell of other code is taken only where that
is trusted; so is one of the time before code was noted, `cells/HASH.json`. A group writes all its results in one go,
before its cells are written: an interrupted group goes on as the same program, so its numbers are those of an
uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from arch.spec import UserError, walk
from experiments.study.panels.panels import PANELS
from experiments.study.plain import back, plain
from experiments.study.results import Cell, Phase
from experiments.suites.base import Score
from train.data.corpus import Source
from train.ensemble import Ensemble
from train.record.identity import digest, identify, old_fields, other_code, text
from train.run import Run
from train.starts.start import Start

FORMAT = 5  # raise it when what is kept of a cell changes
OLD_FORMAT = 3  # kept the same way; named by the bare names of classes, without code
KEY = re.compile(r"[0-9A-Za-z]{1,64}(\.[0-9A-Za-z]{1,64})?")
"""How cells are called, so that none is outside of its folder."""

FREE = (
    *("mesh", "logging.keep", "logging.checkpoint", "logging.prompt", "start.folder"),
    *("reports.keep", "reports.checkpoint", "reports.prompt"),  # as logging was called at first
)
"""Fields that do not change what a cell measures. What a start is, its content tells, also of a start within another
and of a frozen model."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Name:
    """What a cell is called.

    Attributes:
      what: digest of its configuration, its data, and of what is looked at.
      code: module -> digest, of the code that it is trained and looked at by.
      old: what it was called before code was noted.
    """

    what: str
    code: Mapping[str, str]
    old: str

    def __str__(self) -> str:
        return f"{self.what}.{self.code_name}"

    @functools.cached_property
    def code_name(self) -> str:
        return digest(dict(self.code))[:12]


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells of one arm and phase, to be trained as one program.

    Attributes:
      arm, phase: as in `Cell`.
      run: the arm.
      rows: what each cell varies: path -> number.
      diagnostics: panels taken of every cell.
      looked_at: rows that they are taken of, at least.
      suite: scores taken of every cell.
    """

    arm: str
    phase: Phase
    run: Run
    rows: tuple[Mapping[str, float], ...]
    diagnostics: tuple[str, ...] = ()
    looked_at: int = 0
    suite: tuple[Score, ...] = ()

    @functools.cached_property
    def called(self) -> list[Name]:
        """The name of each cell. Raises UserError for data that is not there."""
        lone = (Ensemble((row,)).lone(self.run, 0) for row in self.rows)
        return [name(run, self.diagnostics, self.looked_at, self.suite) for run in lone]

    def names(self) -> list[str]:
        """The name of each cell on disk."""
        return list(map(str, self.called))

    def key(self) -> str:
        """The name of the group on disk."""
        return digest(self.names())

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
    """The cells of a folder, which is made when something is first written.

    Args:
      folder: where they are.
      trust: whether a cell of other code is taken where there is none of this code.
    """

    def __init__(self, folder: Path, trust: bool = False):
        self.folder, self.trust = Path(folder), trust

    def count(self) -> int:
        """How many cells are in the folder, of whatever study, grid and code."""
        return len(list((self.folder / "cells").glob("*.json")))

    def load(self, group: Group) -> dict[str, Cell]:
        """Key -> cell of those that are finished, named as this group names them."""
        found = {}
        for name in group.called:
            path = self._path(str(name))
            if not path.exists():
                path = (self._of_other_code(name) if self.trust else None) or path
            if path.exists():
                cell = _held(path, lambda value: back(value, Cell))
                found[str(name)] = dataclasses.replace(cell, arm=group.arm, phase=group.phase)
        return found

    def others(self, group: Group) -> dict[str, str]:
        """Key -> how the code differs, of the cells in `group` that only other code has trained."""
        missing = [name for name in group.called if not self._path(str(name)).exists()]
        there = [(name, path) for name in missing if (path := self._of_other_code(name)) is not None]
        return {str(name): other_code(self._code(path), name.code) for name, path in there}

    def _of_other_code(self, name: Name) -> Path | None:
        """The newest cell of the same configuration and data."""
        found = [*(self.folder / "cells").glob(f"{name.what}.*.json")]
        newest = max(found, key=lambda path: (path.stat().st_mtime, path.name), default=self._path(name.old))
        return newest if newest.exists() else None

    def _code(self, cell: Path) -> dict[str, str] | None:
        """The code of a cell; None if it is not known."""
        path = self.folder / "code" / f"{cell.stem.partition('.')[2]}.json"
        return _held(path, dict) if path.exists() else None

    def group_folder(self, group: Group) -> Path:
        """Where a group is trained."""
        return self.folder / "groups" / group.key()

    def place(self, key: str) -> tuple[Path, int] | None:
        """Where the cell called `key` was trained: the folder of its group, and its number there; None: not here."""
        for path in self._finished():
            keys = list(_results(path))
            if key in keys:
                return path.parent, keys.index(key)
        return None

    def finish(self, group: Group, cells: Sequence[Cell]) -> None:
        """Keeps the results of a group: first all together, then cell by cell."""
        results = {key: plain(cell) for key, cell in zip(group.names(), cells, strict=True)}
        for name in group.called:
            write(self.folder / "code" / f"{name.code_name}.json", json.dumps(dict(name.code), indent=1) + "\n")
        write(self.group_folder(group) / "group.json", json.dumps(results, indent=1) + "\n")
        self._spread(results)

    def settle(self) -> None:
        """Writes the cells of groups that were finished when a process was killed."""
        for path in self._finished():
            results = _results(path)
            missing = {key: cell for key, cell in results.items() if not self._path(key).exists()}
            self._spread(missing)

    def _finished(self) -> list[Path]:
        return sorted((self.folder / "groups").glob("*/group.json"))

    def _path(self, key: str) -> Path:
        return self.folder / "cells" / f"{key}.json"

    def _spread(self, results: Mapping[str, Any]) -> None:
        for key, cell in results.items():
            write(self._path(key), json.dumps(cell, indent=1) + "\n")


def name(run: Run, diagnostics: Sequence[str] = (), rows: int = 0, suite: Sequence[Score] = ()) -> Name:
    """The name of the cell that `run` is, looked at by `diagnostics` on as many `rows`, scored by `suite`.

    Raises:
      UserError: data that is not there.
    """
    modules = [PANELS.get(panel, panel).partition(":")[0] for panel in diagnostics]
    whole = identify(run, modules=[*modules, *(type(one).__module__ for one in suite)])
    told = {f"{path}.folder" for path, part in walk(run) if isinstance(part, Start) and part.digest() is not None}
    fields = {path: value for path, value in _counted(whole.fields).items() if path not in told}
    what = dataclasses.replace(whole, fields=fields).what()
    contents = [part.identity() for _, part in walk(run.data) if isinstance(part, Source)]
    old = digest([OLD_FORMAT, _counted(old_fields(run)), list(diagnostics), contents])
    looked = [FORMAT, what, [*diagnostics, rows] if diagnostics else []]
    return Name(digest([*looked, *map(text, suite)]), whole.code or {}, old)


def _results(file: Path) -> Mapping[str, Any]:
    """Key -> cell of a group. Raises UserError for what is no such file, or would be written elsewhere."""
    found = _held(file, lambda held: {str(key): dict(cell) for key, cell in held.items()})
    if (bad := next((key for key in found if not KEY.fullmatch(key)), None)) is not None:
        raise UserError(f"{file}: {bad!r} is no name of a cell, as HASH.HASH; nothing is written to such a place")
    return found


def _counted(fields: Mapping[str, str]) -> dict[str, str]:
    return {path: value for path, value in fields.items() if not path.startswith(FREE)}


def write(path: Path, text: str) -> None:
    """Writes a file in one go: a process killed here, or a machine that fails, leaves the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with new.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def _held(path: Path, made: Callable[[Any], T]) -> T:
    """What is `made` of the JSON in a file of the store. Raises UserError, in one line, for one that is damaged."""
    try:
        return made(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:160]}); "
                        "remove it, and what it held is trained again") from error  # fmt: skip

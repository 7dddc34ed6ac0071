"""Which package of the standard library a piece of Python source comes from: real bytes that every machine has.

Files, not windows, are divided between the splits, so that no file is in two of them. Every class has as
many windows as the others in each split. The text is the interpreter's own; a data set is named by its hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from arch.spec import Problem, UserError, at_least, between
from train.data import cache
from train.data.base import Data, Progress
from train.data.corpus import fractions
from train.data.description import Description
from train.data.labelled import Documents, LabelledDataset, LabelledRows, token_arrays
from train.data.random_windows import RandomWindows
from train.data.tokenizers import Bytes

VERSION = 2  # raise it when the same files give other windows


@dataclasses.dataclass(frozen=True)
class PackageBytes(Data):
    """Windows of `length` bytes and the package they are from.

    Attributes:
      packages: of the standard library; the classes.
      length: bytes of a window.
      validation, test: the least fractions of bytes held out; without `test`, 0, there is no test split.
      windows: how training windows are drawn; None: the files are cut from their beginnings, as those of the other
        splits always are.
    """

    packages: tuple[str, ...] = ("asyncio", "email", "multiprocessing", "xml")
    length: int = 128
    validation: float = 0.2
    test: float = 0.1
    windows: RandomWindows | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "length")
        yield from between(self, 0.01, 0.9, "validation")
        yield from fractions(self, "validation", "test")
        if len(set(self.packages)) < max(2, len(self.packages)):
            yield Problem("packages", self.packages, "must be two different ones at least")

    def describe(self) -> Description:
        splits = ("train", "validation", *(("test",) if self.test else ()))
        description = Description(token_arrays(self.length), splits, classes=len(self.packages))
        return Bytes().describe().into(description)

    def build(self, progress: Progress | None = None) -> LabelledDataset:
        """Raises UserError for a package that this interpreter does not have, or has too few files of."""
        windows: dict[str, list[np.ndarray]] = {split: [] for split in self.describe().splits}
        content = hashlib.sha256()
        for package in self.packages:
            files = sources(package)
            content.update(b"".join(files))
            parts = {"validation": self.validation, "test": self.test}
            for split, chosen in divide(files, {split: parts[split] for split in parts if split in windows}).items():
                drawn = self.windows if split == "train" else None
                found = drawn.draw(chosen, self.length, package) if drawn else cuts(chosen, self.length)
                windows[split].append(found)
                if not len(windows[split][-1]):
                    raise self.invalid("packages", f"{package} has too little source for split {split!r}")
        rows = {split: balanced(classes, self.length) for split, classes in windows.items()}
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        key = cache.digest("packages", VERSION, content.hexdigest(), fields)
        return LabelledDataset(rows, self.describe(), key)


def sources(package: str) -> list[bytes]:
    """The Python files of a package of the standard library, without its tests, in an order given by their hashes."""
    folder = Path(sysconfig.get_path("stdlib")) / package
    files = [path for path in folder.rglob("*.py") if not {"test", "tests"} & set(path.relative_to(folder).parts)]
    found = {path.read_bytes() for path in files} - {b""}
    if len(found) < 2:
        raise UserError(f"packages: the standard library in {folder.parent} has fewer than two files of {package!r}")
    return sorted(found, key=lambda content: hashlib.sha256(content).digest())


def cuts(files: Sequence[bytes], length: int) -> np.ndarray:
    """Every whole window [n, length] of each file, from its beginning."""
    whole = [np.frombuffer(file, np.uint8)[: len(file) // length * length].reshape(-1, length) for file in files]
    return np.concatenate(whole or [np.zeros((0, length), np.uint8)])


def divide(files: list[bytes], parts: Mapping[str, float]) -> dict[str, list[bytes]]:
    """The first files for each of `parts` in turn until they hold its fraction of all bytes, the rest for training.

    One file at least is left for training; a part that finds no other is empty.
    """
    whole = sum(map(len, files))
    found: dict[str, list[bytes]] = {}
    for name, fraction in parts.items():
        sizes = np.cumsum([len(file) for file in files])
        count = min(int(np.searchsorted(sizes, fraction * whole)) + 1, len(files) - 1)
        found[name], files = files[:count], files[count:]
    return {**found, "train": files}


def balanced(classes: list[np.ndarray], length: int) -> LabelledRows:
    """As many windows [n, length] of each class, spread evenly over those that there are."""
    least = min(map(len, classes))
    chosen = [rows[np.arange(least) * len(rows) // least] for rows in classes]
    tokens = np.concatenate(chosen).reshape(-1)
    documents = Documents(tokens, np.arange(1, len(tokens) // length + 1, dtype=np.int64) * length)
    return LabelledRows(documents, np.repeat(np.arange(len(classes)), least), length)

"""Parallel text in local files: two files of lines that correspond, or one table of two columns."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from arch.spec import Problem, UserError, at_least
from train.data import cache, disjoint, kinds
from train.data.base import Progress, silent
from train.data.corpus import Record, fractions, split_of
from train.data.local import Files, json_lines, lines, unreadable
from train.data.parallel import ParallelCorpus, ParallelSource, side_keys

VERSION = 1  # raise it when the same files give other pairs
TAB = ".tsv"
TABLES = (TAB, *(ending for ending, kind in kinds.ENDINGS.items() if kind == kinds.JSONL))


@dataclasses.dataclass(frozen=True)
class LocalPairs(ParallelSource):
    """Files of your own: LocalPairs("train.en", "train.de"), line by line, or LocalPairs("train.tsv").

    A table is a .tsv of two columns without a heading, or JSON lines. Lines that are blank on both sides are left out.
    With `validation_files` none of `source` is held out: test is then `test_files`, or there is no test split. A
    pair of which a side stands in a split that is evaluated on is left out of training.

    Attributes:
      target: the file of the translations; "": `source` is a table.
      source_field, target_field: of a JSON line.
      validation, test: fractions of the pairs, for splits that have no files of their own.
      block: pairs that follow each other and go to a split together: raise it where neighbours are of one document.
      validation_files, test_files: (source, target) or (table,) of a split of its own.
    """

    source: str
    target: str = ""
    source_field: str = "source"
    target_field: str = "target"
    validation: float = 0.05
    test: float = 0.05
    block: int = 1
    validation_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()

    def problems(self) -> Iterator[Problem]:
        if not self.source:
            yield Problem("source", self.source, "must name a file")
        elif not self.target and Path(self.source).suffix.lower() not in TABLES:
            yield Problem("target", self.target, f"must name the file with the translations of {self.source}; one file "
                          f"alone must end in {' or '.join(TABLES)}")  # fmt: skip
        yield from fractions(self, "validation", "test")
        yield from at_least(self, 1, "block")
        for field in ("validation_files", "test_files"):
            if len(getattr(self, field)) > 2:
                yield Problem(field, getattr(self, field), "must be (source, target) or (table,)")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "validation", *(("test",) if self.test_files or self._parts().get("test") else ()))

    def _own(self) -> dict[str, tuple[str, ...]]:
        """Split -> its own files."""
        named = {"validation": self.validation_files, "test": self.test_files}
        return {split: files for split, files in named.items() if files}

    def _parts(self) -> dict[str, float]:
        """Split -> the fraction of `source` that is held out for it."""
        held_out = {} if self.validation_files else {"validation": self.validation, "test": self.test}
        return {split: part for split, part in held_out.items() if split not in self._own()}

    def _files(self, split: str) -> tuple[str, ...]:
        return self._own().get(split, (self.source, self.target) if self.target else (self.source,))

    def identity(self) -> str:
        key = self._key()
        return disjoint.named(key, self._repeated(key))

    def _key(self) -> str:
        """A name of what is in the files."""
        hashes = {split: [_named(name) for name in self._files(split)] for split in ("train", *self._own())}
        fields = [self.source_field, self.target_field, self.block]
        return cache.digest("local_pairs", VERSION, hashes, self._parts(), fields)

    def _repeated(self, key: str) -> disjoint.Numbers:
        """The pairs of each split of which a side stands in another."""
        own, parts = self._own(), self._parts()

        def keys(split: str) -> Iterator[tuple[int, set[bytes]]]:
            for number, record in enumerate(self.records(split)):
                if split in own or split_of(record["document"], parts) == split:
                    yield number, side_keys(record)

        return disjoint.kept(key, lambda: disjoint.repeated(self.splits, keys))

    def build(self, progress: Progress = silent) -> ParallelCorpus:
        from train.data import parallel_builder  # TFDS takes most of a second to import

        key, own = self._key(), frozenset(self._own())
        repeated = self._repeated(key)
        disjoint.tell("LocalPairs", repeated, "pairs")
        name = f"local_pairs-{disjoint.named(key, repeated)}"
        return parallel_builder.prepared(name, self.records, self._parts(), progress, own, repeated)

    def records(self, split: str) -> Iterator[Record]:
        """The pairs of the files of a split; the document of each is the first source of its block.

        Raises UserError for a file that cannot be read, has another number of lines than its partner, or lacks a side.
        """
        files = [_file(name)[0] for name in self._files(split)]
        document = ""
        pairs = self._table(files[0]) if len(files) == 1 else line_pairs(*files)
        for number, (source, target) in enumerate(pairs):
            if number % self.block == 0:
                document = source
            yield {"source": source, "target": target, "document": document}

    def _table(self, path: Path) -> Iterator[tuple[str, str]]:
        if path.suffix.lower() == TAB:
            return tab_pairs(path)
        return self._json_pairs(path)

    def _json_pairs(self, path: Path) -> Iterator[tuple[str, str]]:
        source, target = json_lines(path, self.source_field), json_lines(path, self.target_field)
        with contextlib.closing(source), contextlib.closing(target):
            for number, sides in enumerate(zip(source, target, strict=True), start=1):
                if _both(sides, path, path, number, "record"):
                    yield sides


def line_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """The lines of two files that correspond."""
    ours, theirs = lines(source), lines(target)
    with contextlib.closing(ours), contextlib.closing(theirs):
        for number, sides in enumerate(itertools.zip_longest(ours, theirs), start=1):
            if None in sides:
                counts = [sum(1 for _ in lines(path)) for path in (source, target)]
                raise UserError(f"{source} has {counts[0]:,} lines and {target} {counts[1]:,}; line n of one must be "
                                "the translation of line n of the other")  # fmt: skip
            pair = sides[0].rstrip("\n"), sides[1].rstrip("\n")
            if _both(pair, source, target, number):
                yield pair


def tab_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file, each a source and a target with a tab between."""
    with contextlib.closing(lines(path)) as found:
        for number, line in enumerate(found, start=1):
            columns = line.rstrip("\n").split("\t")
            if len(columns) != 2 and line.strip():
                raise UserError(f"{path}:{number}: {len(columns)} columns where a source, a tab and a target should be")
            if line.strip() and _both((columns[0], columns[1]), path, path, number):
                yield columns[0], columns[1]


def _both(pair: tuple[str, ...], source: Path, target: Path, number: int, what: str = "line") -> bool:
    """Whether there is a pair; False where both sides are blank. Raises UserError where one is."""
    blank = [not side.strip() for side in pair]
    if any(blank) and not all(blank):
        side, path = ("source", source) if blank[0] else ("target", target)
        raise UserError(f"{path}: {what} {number} has an empty {side}; take the pair out, or fill it in")
    return not any(blank)


def _named(name: str) -> str:
    """The content of a file; with how it is read, where that does not say it."""
    path, sha256 = _file(name)
    both = path.suffix.lower() == TAB and kinds.by_content(path) == kinds.JSONL
    return f"{sha256} {TAB}" if both else sha256


def _file(name: str) -> tuple[Path, str]:
    """The file, and its SHA-256. Raises UserError if it is not there or not one."""
    files = Files(name, "auto", "", "line")
    try:
        found = files.paths()
    except UserError as error:
        raise UserError(f"{error}; LocalPairs reads the two sides of its pairs from files") from None
    if len(found) > 1:
        raise UserError(f"{name} matches {len(found)} files; the order of lines is known for one only: join them")
    try:
        return found[0], cache.file_sha256(found[0])
    except OSError as error:
        raise unreadable(error) from error

"""Parallel text: pairs of a text and its translation, and how they are divided into splits.

Pairs go to a split by the document that they are from (a chapter, a page), never one by one: neighbours say much the
same, and what is validated on would have been trained on.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from arch.spec import Problem, Spec, one_of
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Record, Source, folded_hash, read_many


@dataclasses.dataclass(frozen=True)
class ParallelCorpus:
    """Opened pairs: the records of `corpus`, and the features that hold the two sides."""

    corpus: Corpus
    source: str = "source"
    target: str = "target"

    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """(text, translation) in the order on disk, without NUL characters. Those with a blank side are left out."""
        for sides in self.corpus.columns(split, self.source, self.target):
            source, target = (side.replace("\0", "") for side in sides)
            if source.strip() and target.strip():
                yield source, target

    def swapped(self) -> ParallelCorpus:
        return dataclasses.replace(self, source=self.target, target=self.source)


@dataclasses.dataclass(frozen=True)
class ParallelSource(Spec, abc.ABC):
    """Base of every source of pairs."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits, known without the pairs. A field `test` that holds something makes a third."""
        return ("train", "validation", "test") if getattr(self, "test", None) else ("train", "validation")

    @abc.abstractmethod
    def identity(self) -> str:
        """A name of the content: equal identities give equal pairs in equal order."""

    @abc.abstractmethod
    def build(self, progress: Progress = silent) -> ParallelCorpus:
        """Opens the pairs; prepares them first if they are not in the cache."""


@dataclasses.dataclass(frozen=True)
class Swapped(ParallelSource):
    """`pairs` in the other direction: the source is what was the target. Every pair stays in its split."""

    pairs: ParallelSource

    @property
    def splits(self) -> tuple[str, ...]:
        return self.pairs.splits

    def identity(self) -> str:
        return cache.digest("swapped", self.pairs.identity())

    def build(self, progress: Progress = silent) -> ParallelCorpus:
        return self.pairs.build(progress).swapped()


@dataclasses.dataclass(frozen=True)
class Sides(Source):
    """The texts of pairs as documents: of one side, or of both in turn. Tokenizers learn from them."""

    pairs: ParallelSource
    side: Literal["both", "source", "target"] = "both"

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "side", ("both", "source", "target"))

    @property
    def splits(self) -> tuple[str, ...]:
        return self.pairs.splits

    def identity(self) -> str:
        return cache.digest("sides", self.pairs.identity(), self.side)

    def build(self, progress: Progress = silent) -> Corpus:
        found = self.pairs.build(progress)
        if self.side != "both":
            return dataclasses.replace(found.corpus, text=getattr(found, self.side))
        splits = {
            split: _InTurn(records, (found.source, found.target)) for split, records in found.corpus.splits.items()
        }
        return dataclasses.replace(found.corpus, splits=splits, text="text")


class _InTurn(Sequence[Record]):
    """Documents of both sides of `records`, first one, then its translation, then the next."""

    def __init__(self, records: Sequence[Record], names: tuple[str, str]):
        self._records, self._names = records, names

    def __len__(self) -> int:
        return 2 * len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self.__getitems__(range(index, index + 1))[0]

    def __getitems__(self, indices: range) -> list[Record]:
        first = indices[0] // 2
        records = read_many(self._records, range(first, indices[-1] // 2 + 1))
        return [{"text": records[index // 2 - first][self._names[index % 2]]} for index in indices]


def side_keys(record: Record) -> set[bytes]:
    """What pairs have in common that are the same on one side, but for case and white space."""
    return {b"s" + folded_hash(record["source"]), b"t" + folded_hash(record["target"])}


def distinct(records: Iterable[Record]) -> list[Record]:
    """Records of `source` and `target` without those of which a side, but for case and white space, occurred before.

    So no side of a pair in one split stands in another.
    """
    seen: set[bytes] = set()
    kept = []
    for record in records:
        sides = side_keys(record)
        if not sides & seen:
            kept.append(record)
        seen |= sides
    return kept

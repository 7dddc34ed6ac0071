"""Sources of documents: what every one of them offers, and how documents are divided into splits.

A document goes to a split by a hash of its text, folded over case and white space, so that a text that occurs twice
never stands on both sides, and adding documents moves none of the old ones.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from arch.spec import Problem, Spec, UserError, above, at_least
from train.data.base import Progress, silent

Record = dict[str, Any]
READ_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class Corpus:
    """An opened source: random access to the records of each split, and iteration over their texts."""

    name: str
    splits: Mapping[str, Sequence[Record]]
    features: Mapping[str, Any]
    text: str = "text"
    clean: Callable[[str], str] = str

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split, in the order on disk."""
        return (text for (text,) in self.columns(split, self.text))

    def columns(self, split: str, *names: str) -> Iterator[tuple[str, ...]]:
        """Those text features of each record of a split, in the order on disk."""
        records = self.splits[split]
        for first in range(0, len(records), READ_AT_ONCE):
            indices = range(first, min(first + READ_AT_ONCE, len(records)))
            try:
                values = [[record[name] for name in names] for record in read_many(records, indices)]
            except (RuntimeError, TypeError, ValueError, OSError) as error:  # a cut file reads as None
                raise UserError(f"{self.name}: records {first}-{indices[-1]} of {split!r} cannot be read; the prepared "
                                "data is damaged: delete its folder to have it made again") from error  # fmt: skip
            for texts in values:
                yield tuple(self.clean(text.decode() if isinstance(text, bytes) else text) for text in texts)


def read_many(records: Sequence[Record], indices: Sequence[int]) -> Sequence[Record]:
    """Many records at once, which array_record files give twice as fast as one by one."""
    together = getattr(records, "__getitems__", None)
    return together(indices) if together else [records[index] for index in indices]


@dataclasses.dataclass(frozen=True)
class Source(Spec, abc.ABC):
    """Base of every source of documents."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits, known without the documents. A field `test` that holds something makes a third."""
        return ("train", "validation", "test") if getattr(self, "test", None) else ("train", "validation")

    def classes(self, label: str) -> int | None:
        """How many classes the feature `label` has, where that is known without the documents."""
        return None

    @abc.abstractmethod
    def identity(self) -> str:
        """A name of the content: equal identities give equal documents in equal order."""

    @abc.abstractmethod
    def build(self, progress: Progress = silent) -> Corpus:
        """Opens the documents; prepares them first if they are not in the cache."""


def fractions(spec: Spec, *fields: str) -> Iterator[Problem]:
    """Problems of split fractions: some for validation, which comes first, no negative ones, some left for training."""
    yield from above(spec, 0, fields[0])
    yield from at_least(spec, 0, *fields[1:])
    if sum(getattr(spec, field) for field in fields) >= 1:
        largest = max(reversed(fields), key=lambda field: getattr(spec, field))
        yield Problem(largest, getattr(spec, largest), f"{' + '.join(fields)} must leave something for training")


def folded_hash(text: str) -> bytes:
    """A hash that is the same for texts that differ in case and white space only."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()


def split_of(text: str, parts: Mapping[str, float]) -> str:
    """The split of a document: one of `parts` (name -> fraction of all documents), else "train"."""
    place = int.from_bytes(folded_hash(text)[:8], "big") / 2**64
    for name, fraction in parts.items():
        if place < fraction:
            return name
        place -= fraction
    return "train"


def without_breaks(text: str) -> str:
    """`text` with HTML line breaks as newlines."""
    return text.replace("<br />", "\n")


def unique(records: Iterable[Record]) -> list[Record]:
    """The records without those whose text occurred before."""
    seen: dict[bytes, Record] = {}
    for record in records:
        seen.setdefault(folded_hash(record["text"]), record)
    return list(seen.values())

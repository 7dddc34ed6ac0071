"""What is validated and tested on is not trained on: records that repeat one of a split that is judged are left out.

Two texts are the same if they differ in case and white space only (`corpus.folded_hash`). Test stays whole; validation
loses what stands in test, train what stands in either. Which records those are is looked up once and kept in the cache.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arch.spec import UserError
from train.data import cache
from train.data.corpus import Record, folded_hash, read_many

Numbers = Mapping[str, Sequence[int]]
"""Split -> which of its records, counted from 0."""

_log = logging.getLogger(__name__)


def repeated(splits: Iterable[str], keys: Callable[[str], Iterable[tuple[int, Collection[bytes]]]]) -> Numbers:
    """The records of each split that share a key with one of a split that comes before it: test, validation, others,
    train. `keys` gives the number and the keys of each record of a split."""
    rank = {"test": 0, "validation": 1, "train": 3}
    order = sorted(splits, key=lambda split: rank.get(split, 2))
    seen: set[bytes] = set()
    found: dict[str, list[int]] = {}
    for split in order:
        mine: set[bytes] = set()
        numbers = []
        for number, own in keys(split):
            if not seen.isdisjoint(own):
                numbers.append(number)
            elif split != order[-1]:
                mine.update(own)
        if numbers:
            found[split] = numbers
        seen |= mine
    return found


def kept(key: str, look: Callable[[], Numbers]) -> Numbers:
    """What `look` finds in the data called `key`, looked up once."""

    def make(folder: Path) -> None:
        (folder / "numbers.json").write_text(json.dumps(look()))

    found: Numbers = json.loads((cache.entry("repeated", key, make) / "numbers.json").read_text())
    return found


def named(key: str, found: Numbers) -> str:
    """The name of the content called `key` without the records `found`."""
    return cache.digest(key, "without", found) if found else key


def text_keys(text: str) -> tuple[bytes, ...]:
    """The keys of a document. A blank one repeats nothing."""
    return (folded_hash(text),) if text.strip() else ()


def tell(what: str, found: Numbers, records: str = "documents") -> None:
    """One line that counts what is left out, if there is anything."""
    for split, numbers in found.items():
        others = "the test split" if split == "validation" else "a split that is evaluated on"
        _log.warning("%s: %d %s of %s also stand in %s; they are left out of %s",
                     what, len(numbers), records, split, others, split)  # fmt: skip


def without(what: str, splits: Mapping[str, Sequence[Record]], found: Numbers) -> dict[str, Sequence[Record]]:
    """`splits` without the records `found`. Raises UserError if that leaves nothing of one."""
    return {
        split: Remaining(what, split, records, found[split]) if split in found else records
        for split, records in splits.items()
    }


class Remaining(Sequence[Record]):
    """`records` of a split without those numbered `dropped`."""

    def __init__(self, what: str, split: str, records: Sequence[Record], dropped: Sequence[int]):
        self._records = records
        self._which = np.delete(np.arange(len(records)), np.asarray(dropped, np.int64))
        if not len(self._which):
            raise UserError(f"{what}: each of {len(records)} records of {split!r} also stands in a split that is "
                            "evaluated on; give other splits")  # fmt: skip

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, index: Any) -> Any:
        return self._records[int(self._which[index])]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Record]:
        return read_many(self._records, [int(self._which[index]) for index in indices])

"""The TFDS builder of parallel text: records of a source, its translation and the document that both are from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds

from train.data import builders
from train.data.base import Progress
from train.data.corpus import Record, split_of
from train.data.disjoint import Numbers
from train.data.parallel import ParallelCorpus


class ParallelTextBuilder(builders.Documents):
    """Pairs, divided by a hash of their `document`. Splits in `own` are what `pairs` gives for them, undivided."""

    name = "parallel_text"

    def __init__(
        self,
        *,
        pairs: Callable[[str], Iterable[Record]],
        parts: Mapping[str, float],
        own: frozenset[str],
        **kwargs: Any,
    ):
        self._pairs, self._divided, self._own = pairs, parts, own
        super().__init__(parts={**parts, **dict.fromkeys(own, 1.0)}, **kwargs)

    def features(self) -> dict[str, Any]:
        return {name: tfds.features.Text() for name in ("source", "target", "document")}

    def records(self, split: str) -> Iterable[Record]:
        return self._pairs(split)

    def _keeps(self, split: str, record: Record) -> bool:
        return split in self._own or split_of(record["document"], self._divided) == split


def prepared(
    key: str,
    pairs: Callable[[str], Iterable[Record]],
    parts: Mapping[str, float],
    progress: Progress,
    own: frozenset[str] = frozenset(),
    dropped: Numbers | None = None,
) -> ParallelCorpus:
    """The pairs in the cache under `key`; if they are not there, they are what `pairs(split)` gives but `dropped`."""
    given = {"pairs": pairs, "parts": parts, "own": own, "dropped": dropped, "progress": progress}
    corpus = builders.prepared(key, ParallelTextBuilder, **given)
    return ParallelCorpus(corpus)

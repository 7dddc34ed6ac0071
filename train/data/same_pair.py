"""Two renderings of one text, or of its neighbour: a task of two texts on aligned pairs, with hard negatives.

Each first side of a document's pairs stands beside its own second side, or that of the next pair of the same document,
of the last pair that of the first. So both classes have the same topics, the same style and, for the labels 0 all
together, the same texts. What remains to be told by is what the two say, and how many words and how much length they
share.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from arch.spec import UserError
from train.data import cache
from train.data.base import Tokenizer
from train.data.description import Description
from train.data.labelled import Documents, LabelledDataset, token_arrays
from train.data.parallel import ParallelSource
from train.data.rows import Batch

VERSION = 1  # raise it when the same pairs give other rows
NAMES = ("tokens", "segments", "tokens2", "segments2")


class SamePairRows:
    """Row i: the first side of pair i, and its own second side, or that of the `after` one."""

    def __init__(
        self, sides: tuple[Documents, Documents], own: np.ndarray, after: np.ndarray, labels: np.ndarray, length: int
    ):
        self.sides, self.labels, self.length = sides, labels.astype(np.int32), length
        self.first, self.second = own, np.where(labels == 1, own, after)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> Batch:
        found: Batch = {}
        for names, side, which in zip((NAMES[:2], NAMES[2:]), self.sides, (self.first, self.second), strict=True):
            found |= dict(zip(names, side.rows(which[indices], self.length), strict=True))
        return {**found, "label": self.labels[indices], "weight": np.ones(len(indices), np.float32)}


def same_pair(
    pairs: ParallelSource, tokenizer: Tokenizer, length: int, description: Description, seed: int = 0
) -> LabelledDataset:
    """The task of `pairs`: `tokens`, `segments`, `tokens2`, `segments2`, int32 [length], and `label`, 1 for the same.

    Args:
      tokenizer: reads both sides. Texts begin with bos as in training; what is too long loses its end.
      description: of data in the same tokens.
      seed: draws the labels, half of each in the mean.

    Raises:
      UserError: pairs that tell of no documents, or a split in which fewer than two of one document are.
    """
    name, corpus = type(pairs).__name__, pairs.build()
    if "document" not in corpus.corpus.features:
        raise UserError(f"{name} does not say which document a pair is from: there are no neighbours to tell it from")
    rows = {}
    for split in pairs.splits:
        read = list(corpus.corpus.columns(split, corpus.source, corpus.target, "document"))
        first, second, documents = zip(*read, strict=True) if read else ((), (), ())
        own, after = neighbours(documents)
        if not len(own):
            raise UserError(f"{name}: no document of split {split!r} has two pairs")
        labels = np.random.default_rng((seed, zlib.crc32(split.encode()))).integers(0, 2, len(own))
        sides = tuple(_read(texts, tokenizer, length) for texts in (first, second))
        rows[split] = SamePairRows((sides[0], sides[1]), own, after, labels, length)
    about = Description(token_arrays(length, NAMES), pairs.splits, vocab=description.vocab, classes=2,
                        token_bytes=description.token_bytes, mask=description.mask)  # fmt: skip
    key = cache.digest("same_pair", VERSION, pairs.identity(), tokenizer.fingerprint, length, seed)
    return LabelledDataset(rows, about, key, tokenizer)


def neighbours(documents: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the pairs whose document has others, and of the next one of the same document for each."""
    of: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        of.setdefault(document, []).append(index)
    after: Mapping[int, int] = dict(_following(of))
    return np.fromiter(after, np.int64, len(after)), np.fromiter(after.values(), np.int64, len(after))


def _following(of: Mapping[str, list[int]]) -> Iterator[tuple[int, int]]:
    for places in of.values():
        if len(places) > 1:
            yield from zip(places, (*places[1:], places[0]), strict=True)


def _read(texts: tuple[str, ...], tokenizer: Tokenizer, length: int) -> Documents:
    read = tokenizer.encode_batch(texts)
    return Documents.of((np.concatenate([[tokenizer.bos], ids])[:length] for ids in read), tokenizer.vocab)

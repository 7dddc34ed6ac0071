"""Documents with a label: film reviews and their sentiment, Wikipedia leads and their topic, or your own.

With `Bytes()` this is byte-level text classification as in the Long Range Arena (arXiv 2011.04006, section 2.2.2); with
`BPE()` it is the same at the level of tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from arch.spec import Problem, UserError, at_least
from train.data import cache
from train.data.bars import bars
from train.data.base import Data, Progress, Tokenizer
from train.data.corpus import READ_AT_ONCE, Corpus, Source
from train.data.description import Description
from train.data.labelled import Documents, LabelledDataset, LabelledRows, token_arrays
from train.data.labels import labelled, refuse_strange
from train.data.sources import IMDbReviews
from train.data.tokenizers import Bytes, TokenizerSpec, Tokens

VERSION = 2  # of the files; raise it when their layout changes


@dataclasses.dataclass(frozen=True)
class TextClasses(Data):
    """The class of a document, from its begin token and first tokens.

    Attributes:
      source: the documents; a feature of theirs is the label.
      tokenizer: of the text.
      length: tokens of a row; longer documents are cut off.
      label: the feature, a ClassLabel.
    """

    source: Source = IMDbReviews()
    tokenizer: TokenizerSpec = Bytes()
    length: int = 1024
    label: str = "label"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "length")

    def describe(self) -> Description:
        classes = self.source.classes(self.label)
        description = Description(token_arrays(self.length), self.source.splits, classes=classes)
        return self.tokenizer.describe().into(description)

    def build(self, progress: Progress | None = None) -> LabelledDataset:
        """Rows without a label (-1) are left out. Raises UserError if the source has no such label, or one that is no
        class."""
        with bars(progress) as report:
            tokenizer = self.tokenizer.build(self.source, report)
            key = cache.digest("classes", VERSION, self.source.identity(), tokenizer.fingerprint, self.label)

            def make(folder: Path) -> None:
                corpus = self.source.build(report)
                classes = class_count(corpus, self.label)
                np.save(folder / "classes.npy", np.array(classes))
                for split in self.source.splits:
                    labels, documents = tokenised(corpus, split, self.label, tokenizer, report)
                    refuse_strange(labels, classes, self._where(split))
                    documents.save(folder, split)
                    np.save(folder / f"{split}.labels.npy", labels.astype(np.int32))

            folder = cache.entry("classes", key, make)
        classes = int(np.load(folder / "classes.npy"))
        rows, dropped = {}, {}
        for split in self.source.splits:
            labels, documents = np.load(folder / f"{split}.labels.npy"), Documents.load(folder, split)
            found = labelled(labels, classes, self._where(split))
            if len(found) < len(labels):
                labels, documents, dropped[split] = labels[found], documents.chosen(found), len(labels) - len(found)
            rows[split] = LabelledRows(documents, labels, self.length)
        description = Tokens.of(tokenizer).into(dataclasses.replace(self.describe(), classes=classes))
        name = cache.digest(key, self.length, *([dropped] if dropped else []))
        return LabelledDataset(rows, description, name, tokenizer)

    def _where(self, split: str) -> str:
        return f"{type(self.source).__name__}, split {split!r}"


def class_count(corpus: Corpus, label: str) -> int:
    """How many classes the feature `label` has. Raises UserError if it is no ClassLabel."""
    features = dict(corpus.features.items())
    classes = getattr(features.get(label), "num_classes", None)
    if classes is None:
        kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise UserError(f"{corpus.name}: no ClassLabel feature {label!r}; it has {kinds}")
    return int(classes)


def tokenised(
    corpus: Corpus, split: str, label: str, tokenizer: Tokenizer, progress: Progress
) -> tuple[np.ndarray, Documents]:
    """The labels and the tokens of a split, each document with its begin token."""
    records = corpus.splits[split]
    labels: list[int] = []
    sequences: list[np.ndarray] = []
    together = getattr(records, "__getitems__", None)  # array_record files give many at once faster than one by one
    for first in range(0, len(records), READ_AT_ONCE):
        indices = range(first, min(first + READ_AT_ONCE, len(records)))
        read = together(indices) if together else [records[index] for index in indices]
        labels += [int(record[label]) for record in read]
        values = [record[corpus.text] for record in read]
        texts = [corpus.clean(value.decode() if isinstance(value, bytes) else value) for value in values]
        sequences += [np.concatenate([[tokenizer.bos], ids]) for ids in tokenizer.encode_batch(texts)]
        progress(f"tokenise {split}", len(labels), len(records))
    return np.array(labels), Documents.of(sequences, tokenizer.vocab)

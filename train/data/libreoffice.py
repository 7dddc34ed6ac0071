"""The help pages of LibreOffice in several languages, aligned by paragraph.

A page has the same relative path in every language, and a paragraph or heading of it the same HTML id. Packages are
Debian's libreoffice-help-en-us, -de and -fr (1.8, 3.3 and 3.2 MB); any installation's `help` folder will do as well.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from arch.spec import Problem, UserError, above, at_least, one_of
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Record, fractions
from train.data.debian import LIBREOFFICE, deb_files, fetch_deb
from train.data.parallel import ParallelCorpus, ParallelSource, distinct
from train.data.paths import expanded

VERSION = 1  # raise it when the same pages give other pairs
FOLDERS = {"en": "en-US", "de": "de", "fr": "fr"}
IN_PACKAGE = "usr/share/libreoffice/help/"
PARAGRAPH = re.compile(r'<(p|h[1-6])\b[^>]*?\sid="((?:par|hd)_id[^"]*)"[^>]*>(.*?)</\1>', re.DOTALL)
BREAK, TAG = re.compile(r"<br\b[^>]*>"), re.compile(r"<[^>]*>")


@dataclasses.dataclass(frozen=True)
class LibreOfficeHelp(ParallelSource):
    """Paragraphs of LibreOffice's help: technical prose, MPL-2.0. Divided by page.

    Pairs whose sides are equal, or of which a side occurred before, are left out. Release 7.4.7 has 64,301 paragraphs
    on 2,560 pages in each language. The defaults leave 19,035 pairs of English and German (16,904 / 1,149 / 982 in
    train, validation, test; 13.9 and 13.4 words in the mean), and 18,709 of English and French (16,709 / 1,200 / 800;
    13.5 and 14.8 words).

    Attributes:
      shortest, longest: characters of each side.
      words: of each side at least; many paragraphs are names of menus.
      ratio: the longer side's characters over the shorter one's, at most.
      folder: has the packages, or a folder en-US, de, ... of each language; None: $STRATA_SOURCES, else fetched.
    """

    source: Literal["en", "de", "fr"] = "en"
    target: Literal["en", "de", "fr"] = "de"
    shortest: int = 20
    longest: int = 200
    words: int = 5
    ratio: float = 2.0
    validation: float = 0.05  # fractions of the pages
    test: float = 0.05
    folder: str | None = None

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "source", FOLDERS)
        yield from one_of(self, "target", FOLDERS)
        if self.source == self.target:
            yield Problem("target", self.target, "must be another language than the source")
        yield from at_least(self, 1, "shortest", "words", "ratio")
        yield from above(self, 0, "longest")
        yield from fractions(self, "validation", "test")

    def identity(self) -> str:
        """Of the pages' content: the packages are fetched for it."""
        content = [_Pages.of(language, self.folder).sha256() for language in (self.source, self.target)]
        rule = [self.source, self.target, self.shortest, self.longest, self.words, self.ratio]
        return cache.digest("libreoffice_help", VERSION, content, rule, self.validation, self.test)

    def build(self, progress: Progress = silent) -> ParallelCorpus:
        from train.data import parallel_builder  # TFDS takes most of a second to import

        @functools.cache
        def pairs() -> list[Record]:
            sides = [_Pages.of(language, self.folder, progress).paragraphs() for language in (self.source, self.target)]
            return distinct(record for record in aligned(*sides) if self._fits(record["source"], record["target"]))

        parts = {"validation": self.validation, "test": self.test}
        key = f"libreoffice_help-{self.source}-{self.target}-{self.identity()}"
        return parallel_builder.prepared(key, lambda split: pairs(), parts, progress)

    def _fits(self, source: str, target: str) -> bool:
        short, long = sorted((len(source), len(target)))
        few = min(len(source.split()), len(target.split()))
        fits = self.shortest <= short and long <= self.longest and long <= self.ratio * short
        return fits and few >= self.words and source != target


def aligned(source: Mapping[str, Mapping[str, str]], target: Mapping[str, Mapping[str, str]]) -> Iterator[Record]:
    """Paragraphs (page -> id -> text) that are on the same page and have the same id on both sides."""
    for page in sorted(source.keys() & target.keys()):
        for name, text in source[page].items():
            if name in target[page]:
                yield {"source": text, "target": target[page][name], "document": page}


def paragraphs(page: str) -> dict[str, str]:
    """id -> plain text of the paragraphs and headings of an HTML page; of an id that occurs twice, the first."""
    found: dict[str, str] = {}
    for _, name, inner in PARAGRAPH.findall(page):
        found.setdefault(name, " ".join(html.unescape(TAG.sub("", BREAK.sub(" ", inner))).split()))
    return found


@dataclasses.dataclass(frozen=True)
class _Pages:
    """The pages of one language: of a package, or in a folder."""

    language: str
    place: Path  # a .deb, or the folder of the language

    @classmethod
    def of(cls, language: str, folder: str | None, progress: Progress = silent) -> _Pages:
        if folder:
            tree = expanded(folder) / FOLDERS[language]
            if (tree / "text").is_dir():
                return cls(language, tree)
        return cls(language, fetch_deb(LIBREOFFICE[language], folder, progress))

    def sha256(self) -> str:
        if self.place.is_file():
            return cache.file_sha256(self.place)
        return hashlib.sha256(b"".join(name.encode() + page for name, page in self._files())).hexdigest()

    def paragraphs(self) -> dict[str, dict[str, str]]:
        """Page -> id -> text. Raises UserError if there are none."""
        found = {name: paragraphs(page.decode("utf-8", "replace")) for name, page in self._files()}
        if not any(found.values()):
            raise UserError(f"{self.place} holds no pages of LibreOffice's help in {FOLDERS[self.language]!r}")
        return found

    def _files(self) -> Iterator[tuple[str, bytes]]:
        if self.place.is_file():
            start = f"{IN_PACKAGE}{FOLDERS[self.language]}/"
            for name, page in deb_files(self.place, lambda n: n.startswith(f"{start}text/") and n.endswith(".html")):
                yield name.removeprefix(start), page
            return
        for path in sorted((self.place / "text").rglob("*.html")):
            yield path.relative_to(self.place).as_posix(), path.read_bytes()

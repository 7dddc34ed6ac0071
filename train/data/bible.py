"""Bibles, aligned by verse: three public domain versions that Debian ships for the SWORD project."""

from __future__ import annotations

import dataclasses
import functools
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Literal

from arch.spec import Problem, UserError, one_of
from train.data import cache, sword
from train.data.base import Progress, silent
from train.data.corpus import Record, fractions
from train.data.debian import SWORD, deb_files, fetch_deb
from train.data.parallel import ParallelCorpus, ParallelSource, distinct

VERSION = 1  # raise it when the same packages give other pairs
VERSIONS = {"web": "web", "kjv": "kjv", "rv1909": "sparv"}


@dataclasses.dataclass(frozen=True)
class BibleVerses(ParallelSource):
    """Verses of two versions: English to Spanish, or two renderings in English. Divided by chapter.

    `web` is the World English Bible, in modern English (sword-text-web), `kjv` the King James Version
    (sword-text-kjv), `rv1909` the Spanish Reina-Valera of 1909 (sword-text-sparv). A verse goes with that of the same
    number (31,077 of `web` and `rv1909`). Left out are chapters that the two number differently, which end in another
    number or follow one that does, and pairs of which a side occurred before: 30,155 stay (27,143 / 1,553 / 1,459 in
    train, validation, test; 24.2 and 22.7 words in the mean), and 30,710 of `web` and `kjv` (27,617 / 1,600 / 1,493).
    """

    source: Literal["web", "kjv", "rv1909"] = "web"
    target: Literal["web", "kjv", "rv1909"] = "rv1909"
    validation: float = 0.05  # fractions of the chapters
    test: float = 0.05
    folder: str | None = None  # has the packages; None: $STRATA_SOURCES, else fetched

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "source", VERSIONS)
        yield from one_of(self, "target", VERSIONS)
        if self.source == self.target:
            yield Problem("target", self.target, "must be another version than the source")
        yield from fractions(self, "validation", "test")

    def identity(self) -> str:
        content = [SWORD[VERSIONS[version]].sha256 for version in (self.source, self.target)]
        return cache.digest("bible_verses", VERSION, content, self.validation, self.test)

    def build(self, progress: Progress = silent) -> ParallelCorpus:
        from train.data import parallel_builder  # TFDS takes most of a second to import

        @functools.cache
        def pairs() -> list[Record]:
            source, target = (verses(version, self.folder, progress) for version in (self.source, self.target))
            return distinct(aligned(source, target))

        parts = {"validation": self.validation, "test": self.test}
        key = f"bible_verses-{self.source}-{self.target}-{self.identity()}"
        return parallel_builder.prepared(key, lambda split: pairs(), parts, progress)


def aligned(source: Mapping[sword.Verse, str], target: Mapping[sword.Verse, str]) -> Iterator[Record]:
    """Verses of the same number, of chapters that both number alike."""
    last, other = _last_verses(source), _last_verses(target)
    before, shifted = "", False
    for (chapter, number), text in source.items():
        if chapter != before:
            follows = shifted and chapter.split(".")[0] == before.split(".")[0]
            before, shifted = chapter, last[chapter] != other.get(chapter)
            skip = shifted or follows
        if not skip and (chapter, number) in target:
            yield {"source": text, "target": target[chapter, number], "document": chapter}


def _last_verses(found: Mapping[sword.Verse, str]) -> dict[str, int]:
    """Chapter -> the number of its last verse."""
    last: dict[str, int] = {}
    for chapter, number in found:
        last[chapter] = max(number, last.get(chapter, 0))
    return last


def verses(version: str, folder: str | None = None, progress: Progress = silent) -> dict[sword.Verse, str]:
    """Verse -> text of a version. Raises UserError if the package cannot be had or read."""
    deb = fetch_deb(SWORD[VERSIONS[version]], folder, progress)
    parts = ("bzs", "bzv", "bzz")
    found = deb_files(deb, lambda name: "/ztext/" in name and name.endswith(parts))
    try:
        return sword.verses({name.rsplit("/", 1)[1]: content for name, content in found})
    except (ValueError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise UserError(f"{deb} is not laid out as expected ({error!r}); use the pinned version") from error

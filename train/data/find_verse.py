"""Long inputs with short outputs, of real text: which of several verses has a word in it, and how does it begin?

A source is a word and some verses of one chapter, of which one alone has that word, and not among its first words;
these are the target. So a decoder alone carries much through all of its layers that an encoder reads once
(Return of the Encoder, arXiv 2501.16273).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from arch.spec import Problem, at_least, one_of
from train.data import cache, sword
from train.data.base import Progress, silent
from train.data.bible import VERSIONS, verses
from train.data.corpus import Record, folded_hash, fractions
from train.data.debian import SWORD
from train.data.parallel import ParallelCorpus, ParallelSource

VERSION = 2  # raise it when the same verses give other pairs
WORD = re.compile(r"[^\W\d_]+")


@dataclasses.dataclass(frozen=True)
class FindVerse(ParallelSource):
    """A word and `verses` of a chapter, "word | verse | verse | ...", to the first `words` words of the verse that has
    it. Divided by chapter.

    Every verse of enough words is asked for `times` times, beside others of its chapter, all of them chosen and ordered
    by `seed`; chapters that have too few give none, and verses without such a word. A verse that stands in several
    places (300 of `web`) counts at the first, so that none is in two splits. The defaults leave 14,309 pairs of `web`
    (13,001 / 691 / 617 in train, validation, test; 97 and 3 words).

    Attributes:
      version: as of `BibleVerses`.
      verses: of a source.
      words: of the target; a verse has two more at least.
      longest: words of a verse, at most: longer ones are not taken.
      letters: of the word that is asked for, at least.
      times: that each verse is asked for, by words and beside verses that may be the same.
      folder: has the packages; None: $STRATA_SOURCES, else fetched.
    """

    version: Literal["web", "kjv", "rv1909"] = "web"
    verses: int = 6
    words: int = 3
    longest: int = 20
    letters: int = 4
    times: int = 1
    validation: float = 0.05  # fractions of the chapters
    test: float = 0.05
    seed: int = 0
    folder: str | None = None

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "version", VERSIONS)
        yield from at_least(self, 2, "verses")
        yield from at_least(self, 1, "words", "letters", "times")
        yield from at_least(self, 0, "seed")
        if self.longest < self.words + 2:
            yield Problem("longest", self.longest, f"must be at least {self.words + 2}: words + 2")
        yield from fractions(self, "validation", "test")

    def identity(self) -> str:
        rule = [self.verses, self.words, self.longest, self.letters, self.times, self.seed, self.validation, self.test]
        return cache.digest("find_verse", VERSION, SWORD[VERSIONS[self.version]].sha256, rule)

    def build(self, progress: Progress = silent) -> ParallelCorpus:
        from train.data import parallel_builder  # TFDS takes most of a second to import

        @functools.cache
        def pairs() -> list[Record]:
            return list(self.asked(verses(self.version, self.folder, progress)))

        parts = {"validation": self.validation, "test": self.test}
        key = f"find_verse-{self.version}-{self.identity()}"
        return parallel_builder.prepared(key, lambda split: pairs(), parts, progress)

    def asked(self, found: Mapping[sword.Verse, str]) -> Iterator[Record]:
        """The pairs of `found`: verse -> text."""
        chapters: dict[str, list[str]] = {}
        seen: set[bytes] = set()
        for (chapter, _), text in found.items():
            key = folded_hash(text)
            if key not in seen and self.words + 2 <= len(text.split()) <= self.longest:
                seen.add(key)
                chapters.setdefault(chapter, []).append(text)
        rng = np.random.default_rng(self.seed)
        for chapter, texts in chapters.items():
            for own in range(len(texts)) if len(texts) >= self.verses else ():
                for _ in range(self.times):
                    others = rng.permutation([other for other in range(len(texts)) if other != own])[: self.verses - 1]
                    word = self._word(texts[own], [texts[other] for other in others], rng)
                    if word:
                        order = rng.permutation([own, *others])
                        source = " | ".join((word, *(texts[index] for index in order)))
                        yield {"source": source, "target": self.first(texts[own]), "document": chapter}

    def first(self, text: str) -> str:
        """The words of `text` that are asked for."""
        return " ".join(text.split()[: self.words])

    def _word(self, text: str, others: Sequence[str], rng: np.random.Generator) -> str:
        """A word of `text` behind the first ones that no other verse has, lower case; empty: there is none."""
        taken = {word for other in (*others, self.first(text)) for word in words_of(other)}
        rest = dict.fromkeys(words_of(" ".join(text.split()[self.words :])))
        free = [word for word in rest if len(word) >= self.letters and word not in taken]
        return free[rng.integers(len(free))] if free else ""


def words_of(text: str) -> list[str]:
    """The words of letters in `text`, lower case, in order."""
    return WORD.findall(text.lower())

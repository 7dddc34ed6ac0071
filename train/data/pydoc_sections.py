"""Paragraphs of a few sections of Python's reference text, each with the section that it is of."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from arch.spec import Problem, UserError
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Source, fractions, split_of, unique
from train.data.pydoc import topics

VERSION = 1  # raise it when what is made of the same text changes


@dataclasses.dataclass(frozen=True)
class PydocSections(Source):
    """Records of `text`, a paragraph, and `section`, the name that its topics of `pydoc_data.topics` go by here.

    `sections`: (name, topics) pairs.
    """

    sections: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("debugger", ("debugger",)),
        ("strings", ("string-methods", "formatstrings")),
    )
    validation: float = 0.1  # fractions of the paragraphs
    test: float = 0.1

    def problems(self) -> Iterator[Problem]:
        yield from fractions(self, "validation", "test")
        names = [name for name, _ in self.sections]
        if len(set(names)) < max(len(names), 2):
            yield Problem("sections", tuple(names), "must be two or more of different names")

    def identity(self) -> str:
        content = hashlib.sha256("\n\n".join(text for _, text in self._texts()).encode()).hexdigest()
        return cache.digest("pydoc_sections", VERSION, content, self.sections, self.validation, self.test)

    def build(self, progress: Progress = silent) -> Corpus:
        paragraphs = [
            {"text": paragraph, "section": section}
            for section, text in self._texts()
            for paragraph in re.split(r"\n[ \t]*\n", text)
            if paragraph.strip()
        ]
        splits: dict[str, list[dict[str, Any]]] = {split: [] for split in self.splits}
        for record in unique(paragraphs):
            splits[split_of(record["text"], {"validation": self.validation, "test": self.test})].append(record)
        return Corpus("sections of the reference text", splits, {"text": str, "section": str})

    def _texts(self) -> Iterator[tuple[str, str]]:
        """(section, text) of each topic. Raises UserError for one that this interpreter does not have."""
        there = topics()
        for section, names in self.sections:
            for name in names:
                if name not in there:
                    raise UserError(f"PydocSections: there is no topic {name}; this Python has {', '.join(there)}")
                yield section, there[name]

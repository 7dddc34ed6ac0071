"""Python's own reference text, which every interpreter carries: the topics of `help()`, 465 KB in Python 3.11.

A document is a paragraph. A fifth of the text stands in several topics word for word, and is kept once, so that nothing
that is validated on was trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from arch.spec import Problem, UserError
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Source, fractions, split_of, unique

VERSION = 2  # raise it when what is made of the same text changes


@dataclasses.dataclass(frozen=True)
class PydocTopics(Source):
    """Paragraphs of `pydoc_data.topics`. Its content depends on the interpreter's version; runs name it by its hash."""

    validation: float = 0.1  # fractions of the paragraphs
    test: float = 0.05

    def problems(self) -> Iterator[Problem]:
        yield from fractions(self, "validation", "test")

    def identity(self) -> str:
        content = hashlib.sha256("\n\n".join(topics().values()).encode()).hexdigest()
        return cache.digest("pydoc_topics", VERSION, content, self.validation, self.test)

    def build(self, progress: Progress = silent) -> Corpus:
        paragraphs = [text for topic in topics().values() for text in re.split(r"\n[ \t]*\n", topic) if text.strip()]
        splits: dict[str, list[dict[str, Any]]] = {split: [] for split in self.splits}
        for record in unique({"text": text} for text in paragraphs):
            splits[split_of(record["text"], {"validation": self.validation, "test": self.test})].append(record)
        name = f"the topics of Python {sys.version_info.major}.{sys.version_info.minor}"
        return Corpus(name, splits, {"text": str})


def topics() -> dict[str, str]:
    """The text of each topic, in the order of their names. Raises UserError if this interpreter comes without it."""
    try:
        from pydoc_data.topics import topics as found
    except ImportError:
        raise UserError(f"{sys.executable} has no pydoc_data.topics; install the whole standard library") from None
    return dict(sorted(found.items()))

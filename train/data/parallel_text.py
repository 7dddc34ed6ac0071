"""Parallel text for encoder-decoders: a source of pairs, a tokenizer or two, and rows of two lengths."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from arch.spec import Problem, UserError, at_least, one_of
from train.data import cache, stream
from train.data.bars import bars
from train.data.base import Data, Dataset, Progress, Tokenizer
from train.data.description import Description
from train.data.libreoffice import LibreOfficeHelp
from train.data.pair_rows import OnePair, PairLayout, PairRows
from train.data.parallel import ParallelSource, Sides
from train.data.stream import Stream
from train.data.tokenizers import TokenizerSpec, Tokens
from train.data.wordpieces import WordPieces

VERSION = 1  # raise it when the same pairs give other rows
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ParallelText(Data):
    """Pairs as rows of `source` text [eos] and `tokens` [bos] text [eos].

    Attributes:
      tokenizer: of both sides, learnt from both; with `source_tokenizer`, of the target alone.
      source_tokenizer: of the source, learnt from the source; None: the same as of the target.
      source_length: S, tokens of the source, eos among them.
      length: T: rows of the target have T + 1 tokens, bos and eos among them.
      overlong: what becomes of a pair of which a side has more: it is left out, or each side is cut off, without eos.
      layout: `OnePair` a row, or `PackedPairs`.
    """

    pairs: ParallelSource = LibreOfficeHelp()
    tokenizer: TokenizerSpec = WordPieces()
    source_tokenizer: TokenizerSpec | None = None
    source_length: int = 64
    length: int = 64
    overlong: Literal["drop", "truncate"] = "drop"
    layout: PairLayout = OnePair()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "source_length", "length")
        yield from one_of(self, "overlong", ("drop", "truncate"))

    @property
    def _widths(self) -> tuple[int, int]:
        return self.source_length, self.length + 1

    def describe(self) -> Description:
        source_vocab = (self.source_tokenizer or self.tokenizer).describe().vocab
        description = Description(self.layout.arrays(self._widths), self.pairs.splits, source_vocab=source_vocab)
        return self.tokenizer.describe().into(description)

    def build(self, progress: Progress | None = None) -> ParallelDataset:
        """Raises UserError if no pair of a split is short enough. One line tells how many were too long."""
        with bars(progress) as report:
            both = self.source_tokenizer is None
            tokenizer = self.tokenizer.build(Sides(self.pairs, "both" if both else "target"), report)
            source_tokenizer: Tokenizer = tokenizer
            if self.source_tokenizer is not None:
                source_tokenizer = self.source_tokenizer.build(Sides(self.pairs, "source"), report)
            key, found = pair_streams(self.pairs, source_tokenizer, tokenizer, report)
        rows, stats = {}, {}
        for split, (source, target) in found.items():
            chosen, long = self._chosen(split, source, target)
            rows[split] = self.layout.build(source, target, chosen, self._widths)
            stats[split] = PairStats.of(rows[split], len(chosen), long)
        self._tell(stats)
        description = Tokens.of(tokenizer).into(self.describe())
        rule = [self.source_length, self.length, self.overlong, str(self.layout)]
        fingerprint = cache.digest("parallel_text", VERSION, key, rule)
        return ParallelDataset(rows, description, fingerprint, tokenizer, source_tokenizer, stats)

    def _chosen(self, split: str, source: Stream, target: Stream) -> tuple[np.ndarray, int]:
        """The pairs [pairs] that rows are made of, and how many were too long."""
        sizes = [np.diff(side.ends, prepend=0) for side in (source, target)]
        fits = (sizes[0] - 1 <= self.source_length) & (sizes[1] <= self.length + 1)
        long = int(np.count_nonzero(~fits))
        chosen = np.flatnonzero(fits) if self.overlong == "drop" else np.arange(len(fits))
        if not len(chosen):
            raise UserError(f"{type(self.pairs).__name__}, split {split!r}: each of {long} pairs is longer than "
                            f"source_length={self.source_length} or length={self.length}; raise them")  # fmt: skip
        return chosen, long

    def _tell(self, stats: Mapping[str, PairStats]) -> None:
        done = "left out" if self.overlong == "drop" else "cut off"
        if any(split.overlong for split in stats.values()):
            told = ", ".join(f"{split.overlong:,} of {split.seen(self.overlong):,} in {name}"
                             for name, split in stats.items())  # fmt: skip
            _log.warning("pairs longer than source_length=%d or length=%d tokens were %s: %s",
                         self.source_length, self.length, done, told)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PairStats:
    """What a split holds: pairs in its rows, pairs that were too long, rows, mean tokens, and how full the rows are.

    Tokens are those of the text: of the source with eos, of the target with bos and eos.
    """

    pairs: int
    overlong: int
    rows: int
    source_tokens: float
    target_tokens: float
    source_efficiency: float
    efficiency: float

    @classmethod
    def of(cls, rows: PairRows, pairs: int, overlong: int) -> PairStats:
        source, target = rows.source.plan, rows.target.plan
        means = float(source.size.mean()), float(target.size.mean())
        return cls(pairs, overlong, len(rows), *means, source.efficiency, target.efficiency)

    def seen(self, rule: str) -> int:
        """The pairs that there were before those too long were dealt with."""
        return self.pairs + (self.overlong if rule == "drop" else 0)


class ParallelDataset(Dataset):
    """Rows of pairs, int32: source, source_segments [b, S], tokens, segments [b, T + 1]; packed, also the positions.

    `tokenizer` is that of the target, `source_tokenizer` that of the source; `stats` has a `PairStats` for each split.
    """

    def __init__(
        self,
        rows: Mapping[str, PairRows],
        description: Description,
        fingerprint: str,
        tokenizer: Tokenizer,
        source_tokenizer: Tokenizer,
        stats: Mapping[str, PairStats],
    ):
        super().__init__(rows, description, fingerprint)
        self.tokenizer, self.source_tokenizer, self.stats = tokenizer, source_tokenizer, dict(stats)


def pair_streams(
    pairs: ParallelSource, source: Tokenizer, target: Tokenizer, progress: Progress
) -> tuple[str, dict[str, tuple[Stream, Stream]]]:
    """A name of the content, and the streams of source and target of each split, pair by pair in the same order."""
    key = cache.digest(
        "pair_streams", VERSION, stream.VERSION, pairs.identity(), source.fingerprint, target.fingerprint
    )
    sides = {"source": source, "target": target}

    def make(folder: Path) -> None:
        corpus = pairs.build(progress)
        about = {}
        for split in pairs.splits:
            total = len(corpus.corpus.splits[split])
            for side, (name, tokenizer) in enumerate(sides.items()):
                texts = (pair[side] for pair in corpus.pairs(split))
                file = f"{split}.{name}"
                about[file] = stream.write(folder, file, texts, tokenizer, corpus.corpus.name, progress, total)
        (folder / "about.json").write_text(json.dumps(about))

    folder = cache.entry("tokens", key, make)
    about = json.loads((folder / "about.json").read_text())

    def read(split: str, name: str) -> Stream:
        return stream.read(folder, f"{split}.{name}", sides[name], about[f"{split}.{name}"])

    return key, {split: (read(split, "source"), read(split, "target")) for split in pairs.splits}

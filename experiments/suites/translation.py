"""Translation: BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of what a model writes, by sacrebleu."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from arch.decode.beam import Beam
from arch.decode.generate import generate
from arch.decode.strategy import Strategy
from arch.models.base import Inputs, Seq2Seq
from arch.spec import Problem, UserError, at_least
from experiments.suites.base import Rows, Score, first
from train.data.baselines import Baseline
from train.objectives.rewards import gleu
from train.run import Run


@dataclasses.dataclass(frozen=True)
class Translation(Score):
    """`bleu`, `chrf_score`, `gleu_score` (GNMT's, of tokens), `token_accuracy` (the share of the references' tokens
    that stand at the same places in what is written) and `length_ratio` (bytes written over bytes of the references)
    on the split's own pairs.

    `strategy`: how it is decoded; `batch`: sources of one call; `called`: a word before the names, where a suite has
    several.
    """

    kinds: ClassVar[tuple[type, ...]] = (Seq2Seq,)

    strategy: Strategy = Beam(4, length_penalty=0.6)
    batch: int = 64
    called: str = ""

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "batch")

    def refusal(self, run: Run) -> str:
        there = run.data.describe().arrays
        if not {"source", "source_segments", "tokens", "segments"} <= set(there) or "positions" in there:
            return "Translation needs rows of one pair each (source, source_segments, tokens, segments)"
        return super().refusal(run)

    def measure(self, asked):
        rows, dataset = asked.rows, asked.opened.dataset
        if getattr(dataset, "tokenizer", None) is None:
            raise UserError(
                f"Translation scores texts; {type(asked.run.data).__name__} has no tokenizer to write them by"
            )
        new, ids = rows["tokens"].shape[1] - 1, []
        for start in range(0, len(rows["tokens"]), self.batch):
            part = slice(start, start + self.batch)
            source = Inputs(rows["source"][part], None, rows["source_segments"][part])
            begin = rows["tokens"][part, :1].tolist()
            stop = dataset.tokenizer.eos
            out = generate(asked.opened.model, begin, new, strategy=self.strategy, stop=stop, source=source)
            ids += [row[:length].tolist() for row, length in zip(out.tokens, out.lengths, strict=True)]
        return self.scored(ids, rows, dataset)

    def baselines(self, dataset, split):
        """Copying: the source as the translation. Names, numbers and what both languages share are right in it."""
        writer = getattr(dataset, "tokenizer", None)
        if writer is None:
            return ()
        rows, reader = first(dataset, split, self.rows), getattr(dataset, "source_tokenizer", writer)
        copied = texts(rows["source"], rows["source_segments"], reader.eos)
        if reader.fingerprint != writer.fingerprint:
            copied = [list(writer.encode(reader.decode(one))) for one in copied]
        return (Baseline("copying", self.scored(copied, rows, dataset)),)

    def scored(self, ids: list[list[int]], rows: Rows, dataset: Any) -> dict[str, float]:
        """The scores of translations, tokens of the target's tokenizer without its end token.

        Raises:
          UserError: sacrebleu is not installed.
        """
        try:
            from sacrebleu.metrics import BLEU, CHRF
        except ImportError as error:
            raise UserError("Translation needs sacrebleu: pip install sacrebleu") from error
        tokenizer = dataset.tokenizer
        references = texts(rows["tokens"][:, 1:], rows["segments"][:, 1:], tokenizer.eos)
        written, wanted = ([tokenizer.decode(row) for row in text] for text in (ids, references))
        bytes_of = lambda texts: sum(len(text.encode()) for text in texts)  # noqa: E731
        same = sum(a == b for both in zip(ids, references, strict=True) for a, b in zip(*both, strict=False))
        found = {
            "bleu": float(BLEU().corpus_score(written, [wanted]).score),
            "chrf_score": float(CHRF().corpus_score(written, [wanted]).score),
            "gleu_score": float(np.mean([gleu(*both) for both in zip(ids, references, strict=True)])),
            "token_accuracy": same / max(sum(map(len, references)), 1),
            "length_ratio": bytes_of(written) / max(bytes_of(wanted), 1),
        }
        return {f"{self.called}_{name}" if self.called else name: value for name, value in found.items()}


def texts(tokens: np.ndarray, segments: np.ndarray, eos: int) -> list[list[int]]:
    """The tokens of each row, without padding and the end token."""
    both = zip(tokens, segments, strict=True)
    return [[one for one in row[there > 0].tolist() if one != eos] for row, there in both]

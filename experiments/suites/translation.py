"""Translation: BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of what a model writes, by sacrebleu."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from arch.decode.beam import Beam
from arch.decode.generate import generate
from arch.decode.strategy import Strategy
from arch.models.base import Inputs, Seq2Seq
from arch.spec import Problem, UserError, at_least
from experiments.suites.base import Score
from train.objectives.rewards import gleu
from train.run import Run


@dataclasses.dataclass(frozen=True)
class Translation(Score):
    """`bleu`, `chrf_score`, `gleu_score` (GNMT's, of tokens) and `length_ratio` (bytes written over bytes of the
    references) on the split's own pairs.

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
        try:
            from sacrebleu.metrics import BLEU, CHRF
        except ImportError as error:
            raise UserError("Translation needs sacrebleu: pip install sacrebleu") from error
        rows, tokenizer = asked.rows, asked.opened.dataset.tokenizer
        new, ids = rows["tokens"].shape[1] - 1, []
        for start in range(0, len(rows["tokens"]), self.batch):
            part = slice(start, start + self.batch)
            source = Inputs(rows["source"][part], None, rows["source_segments"][part])
            first = rows["tokens"][part, :1].tolist()
            out = generate(asked.opened.model, first, new, strategy=self.strategy, stop=tokenizer.eos, source=source)
            ids += [row[:length].tolist() for row, length in zip(out.tokens, out.lengths, strict=True)]
        both = zip(rows["tokens"], rows["segments"], strict=True)
        references = [[one for one in row[there > 0].tolist()[1:] if one != tokenizer.eos] for row, there in both]
        written, wanted = ([tokenizer.decode(row) for row in text] for text in (ids, references))
        bytes_of = lambda texts: sum(len(text.encode()) for text in texts)  # noqa: E731
        found = {
            "bleu": float(BLEU().corpus_score(written, [wanted]).score),
            "chrf_score": float(CHRF().corpus_score(written, [wanted]).score),
            "gleu_score": float(np.mean([gleu(*both) for both in zip(ids, references, strict=True)])),
            "length_ratio": bytes_of(written) / max(bytes_of(wanted), 1),
        }
        return {f"{self.called}_{name}" if self.called else name: value for name, value in found.items()}

"""One scorer of tokens for all families: the log-probability of a token, with what each family may see.

    left   what came before it alone. A decoder's own; an encoder reads what came before and one mask behind it.
    both   the whole row but the token. An encoder's own: the token is a mask (pseudo-log-likelihood, Salazar et al.,
           arXiv 1910.14659). A decoder sees the left side all the same, which is unfair to it.

`NextToken` and `Cloze` ask for single tokens, `Choice` for the continuation that belongs to a beginning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from arch.models.base import Bidirectional, Causal, Inputs, Seq2Seq
from arch.spec import Problem, UserError, at_least, one_of
from experiments.suites.base import Asked, Score
from train.run import Run

Sees = Literal["left", "both"]


def log_probabilities(
    asked: Asked, rows: Mapping[str, np.ndarray], which: Int[np.ndarray, "n 2"], sees: Sees
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The log-probability of tokens, and whether each is the most probable one.

    Args:
      asked: the model that is scored.
      rows: `tokens` and `segments` [B, T], and what else the model reads (`source`, ...).
      which: (row, place) of each token; places are at least 1.
      sees: as above.
    """
    tokens = rows["tokens"]
    if isinstance(asked.run.model, Causal):
        log_p, best = np.zeros(tokens.shape), np.zeros(tokens.shape)
        for part, out in asked.outputs(inputs_of(rows)):
            each = log_softmax(out.logits[:, :-1])
            wanted = tokens[part, 1:]
            log_p[part, 1:] = np.take_along_axis(each, wanted[..., None], axis=2)[..., 0]
            best[part, 1:] = each.argmax(axis=2) == wanted
        return log_p[which[:, 0], which[:, 1]], best[which[:, 0], which[:, 1]]
    hidden = {name: array[which[:, 0]].copy() for name, array in rows.items()}
    every = np.arange(len(which))
    hidden["tokens"][every, which[:, 1]] = asked.mask
    if sees == "left":
        behind = np.arange(tokens.shape[1])[None] > which[:, 1:]
        hidden["segments"] = np.where(behind, 0, hidden["segments"])
    found, right = np.zeros(len(which)), np.zeros(len(which))
    for part, out in asked.outputs(inputs_of(hidden)):
        at = which[part]
        each = log_softmax(out.logits[np.arange(len(at)), at[:, 1] - asked.run.objective.lag])
        wanted = tokens[at[:, 0], at[:, 1]]
        found[part] = each[np.arange(len(at)), wanted]
        right[part] = each.argmax(axis=1) == wanted
    return found, right


def places(rows: Mapping[str, np.ndarray], each: int, seed: int) -> Int[np.ndarray, "n 2"]:
    """(row, place) of `each` tokens a row that follow another of their document: the same for all models."""
    segments, rng = rows["segments"], np.random.default_rng(seed)
    found = []
    for row, own in enumerate(segments):
        there = 1 + np.flatnonzero((own[1:] > 0) & (own[1:] == own[:-1]))
        found += [(row, place) for place in sorted(rng.permutation(there)[:each])]
    return np.array(found, np.int64).reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class TokenScore(Score):
    """Single tokens. `each`: how many of each row."""

    kinds: ClassVar[tuple[type, ...]] = (Causal, Bidirectional)
    sees: ClassVar[Sees] = "left"
    called: ClassVar[str] = ""

    each: int = 4

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "each")

    def refusal(self, run: Run) -> str:
        return super().refusal(run) or of_texts(self, run)

    def measure(self, asked):
        rows = cut(asked.rows)
        log_p, right = log_probabilities(asked, rows, places(rows, self.each, seed=0), self.sees)
        return {f"{self.called}_loss": float(-log_p.mean()), f"{self.called}_accuracy": float(right.mean())}


@dataclasses.dataclass(frozen=True)
class NextToken(TokenScore):
    """A token from what came before it: nats (`next_token_loss`) and the share that is found."""

    called: ClassVar[str] = "next_token"


@dataclasses.dataclass(frozen=True)
class Cloze(TokenScore):
    """A token from both sides: nats (`cloze_loss`) and the share that is found."""

    sees: ClassVar[Sees] = "both"
    called: ClassVar[str] = "cloze"


@dataclasses.dataclass(frozen=True)
class Choice(Score):
    """The second half of a row among `of` candidates, those of the next rows, by its summed log-probability behind the
    first half: `choice_accuracy`. Chance is 1 / of. An encoder sums what it gives each token, seeing all others."""

    kinds: ClassVar[tuple[type, ...]] = (Causal, Bidirectional)

    of: int = 4
    encoder_sees: Sees = "both"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 2, "of")
        yield from one_of(self, "encoder_sees", get_args(Sees))

    def refusal(self, run: Run) -> str:
        return super().refusal(run) or of_texts(self, run)

    def measure(self, asked):
        rows = cut(asked.rows)
        rows = {name: array[(rows["segments"] > 0).all(axis=1)] for name, array in rows.items()}
        count, half = len(rows["tokens"]), rows["tokens"].shape[1] // 2
        if count < self.of:
            asked_of = f"{count} of the first {len(asked.rows['tokens'])} of {asked.split}"
            told = f"Choice takes its {self.of} candidates from rows that are full of text, which {asked_of} are"
            raise UserError(f"{told}: make rows shorter, or pack them")
        totals = np.zeros((self.of, count))
        for other in range(self.of):
            tokens = rows["tokens"].copy()
            tokens[:, half:] = np.roll(rows["tokens"], -other, axis=0)[:, half:]
            made = {**rows, "tokens": tokens, "segments": np.ones_like(tokens)}
            made.pop("positions", None)
            which = np.stack(np.meshgrid(np.arange(count), np.arange(half, tokens.shape[1]), indexing="ij"), -1)
            log_p, _ = log_probabilities(asked, made, which.reshape(-1, 2), self.encoder_sees)
            totals[other] = log_p.reshape(count, -1).sum(axis=1)
        return {"choice_accuracy": float((totals.argmax(axis=0) == 0).mean())}


def of_texts(score: Score, run: Run) -> str:
    """Why tokens of the data of `run` cannot be scored by its model, in a line; "" if they can."""
    if "source" in run.data.describe().arrays and not isinstance(run.model, Seq2Seq):
        name = type(score).__name__
        return f"{name} gives a model the rows of the data as they are, and {type(run.model).__name__} reads no source"
    return ""


def cut(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows with the first T of their T + 1 tokens, as models read them in training."""
    length = rows["tokens"].shape[1]
    return {name: array[:, :-1] if array.shape[1:] == (length,) else array for name, array in rows.items()}


def inputs_of(rows: Mapping[str, np.ndarray]) -> Inputs:
    """What a model reads of rows [B, T], the source of pairs too."""
    source = None
    if "source" in rows:
        source = Inputs(rows["source"], rows.get("source_positions"), rows["source_segments"])
    return Inputs(rows["tokens"], rows.get("positions"), rows["segments"], source=source)


def log_softmax(logits: Any) -> np.ndarray:
    """In float64."""
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

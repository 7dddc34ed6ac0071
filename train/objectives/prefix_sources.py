"""Where the prefixes come from after which a student is compared with its teacher.

`GoldPrefixes` are those of the data. Prefixes that the student writes itself show it what it will have read when it is
used (GKD, arXiv 2306.13649; arXiv 2501.16273); those that the teacher writes are what it imitates (sequence-level
distillation, arXiv 1606.07947). What was written stands where the target of its pair stood: a batch of pairs again,
which each model reads as its own objective has it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from arch.decode.sampling import Sample, Sampler
from arch.models.base import Inputs, Network
from arch.spec import Problem, Spec, at_least, between
from train.objectives.continuations import continuations

Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PrefixSource(Spec, abc.ABC):
    """What both have read before a target. `rows`: of the forward pass, of each row of the batch: the target of the
    data is always among them."""

    rows: ClassVar[int]


@dataclasses.dataclass(frozen=True)
class GoldPrefixes(PrefixSource):
    """Those of the data."""

    rows = 1


@dataclasses.dataclass(frozen=True)
class WrittenPrefixes(PrefixSource):
    """Base of prefixes that a model writes, from the source alone, anew in each step. No gradient goes through it.

    Attributes:
      sampler: how each token is chosen, of those of the data. Sample(temperature=0.9, top_k=128) in the released code
        of arXiv 2501.16273.
      end: the token that ends a target. None: targets have none, and what is written is as long as its target.
      share: of the rows whose prefixes are written, drawn row by row; the others have those of the data (lambda of
        GKD, algorithm 1).
    """

    sampler: Sampler = Sample()
    end: int | None = None
    share: float = 1.0

    rows = 2

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "end")
        yield from between(self, 0, 1, "share")

    @abc.abstractmethod
    def writer(self, student: Any, teacher: Any) -> Any:
        """Which of the two writes."""

    def batch(self, model: Network, read: Any, batch: Batch, keys: jax.Array, vocab: int | None) -> dict[str, Any]:
        """`batch`, pairs one a row, with targets that `model` wrote.

        `read`: a batch -> what the model reads of it (`Task.prepare` without its keys); `keys`: one a row; `vocab`: ids
        that may be written are below it.
        """
        tokens, segments = batch["tokens"], batch["segments"]
        begin = tokens[:, :2]
        first = jnp.broadcast_to(jnp.array([[1, 0]], segments.dtype), begin.shape)
        prompt = at_the_end(read({**batch, "tokens": begin, "segments": first})[0])
        written = continuations(model, prompt, tokens.shape[1] - 1, keys, self.sampler, vocab)
        written = written.astype(tokens.dtype)

        real = segments[:, 1:] > 0
        if self.end is not None:
            ends = (written == self.end).astype(jnp.int32)
            real = (jnp.cumsum(ends, axis=1) - ends == 0) & jnp.any(real, axis=1, keepdims=True)
        own = jnp.concatenate([tokens[:, :1], jnp.where(real, written, 0)], axis=1)
        there = jnp.concatenate([segments[:, :1], real.astype(segments.dtype)], axis=1)

        coins = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, tokens.shape[1])))(keys)
        chosen = (coins < self.share)[:, None]
        told = {"tokens": jnp.where(chosen, own, tokens), "segments": jnp.where(chosen, there, segments)}
        return {**{name: array for name, array in batch.items() if name != "weights"}, **told}


@dataclasses.dataclass(frozen=True)
class StudentPrefixes(WrittenPrefixes):
    """On-policy: the student writes, and is corrected where it went (GKD, arXiv 2306.13649, algorithm 1)."""

    def writer(self, student, teacher):
        return student


@dataclasses.dataclass(frozen=True)
class TeacherPrefixes(WrittenPrefixes):
    """The teacher writes (arXiv 1606.07947, section 3.2, with draws in place of the best sentence of a beam)."""

    def writer(self, student, teacher):
        return teacher


def at_the_end(prompt: Inputs) -> Inputs:
    """Rows with their padding before the tokens, and not behind them; the source as it is."""
    if prompt.segments is None:
        return prompt
    width = prompt.tokens.shape[1]
    padding = jnp.sum(prompt.segments == 0, axis=1, keepdims=True, dtype=jnp.int32)
    order = jnp.mod(jnp.arange(width, dtype=jnp.int32)[None] - padding, jnp.int32(width))

    def turned(array: Any) -> Any:
        return None if array is None else jnp.take_along_axis(array, order, axis=1)

    tokens, segments, of_prefix = map(turned, (prompt.tokens, prompt.segments, prompt.prefix))
    return dataclasses.replace(prompt, positions=None, tokens=tokens, segments=segments, prefix=of_prefix)

"""Span corruption (T5, arXiv 1910.10683, section 3.1.4): spans of a text are cut out, and written in the target.

A text makes a pair (`spans.py`), and `pairs` says how a model learns from pairs: `SequenceToSequence` with an encoder
and a decoder, `PrefixConcatenated` with a decoder alone. All of a row is one text, as in T5's pre-training: documents
that are packed into a row are not kept apart. The spans come from the key of the row.

Sentinels are ids above the data's vocabulary, V, V + 1, ...; a row of T tokens needs as many as it can have spans, and
one. The target begins with the first of them, which is given rather than predicted.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arch.spec import Problem, Spec, above, at_least, between
from train.data.description import Description
from train.objectives.base import Objective, Task
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.spans import corrupted, counts, noise_mask


@dataclasses.dataclass(frozen=True)
class Denoiser(Spec):
    """One way of hiding spans.

    Attributes:
      density: share of the tokens that is noise.
      mean_span: mean length of a span in tokens; None: one span, at the end of the text.
      mode: the kind of task that the source begins with a token of; None: none.
    """

    density: float = 0.15
    mean_span: float | None = 3.0
    mode: Literal["R", "S", "X"] | None = None

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "density")
        yield from above(self, 0, "density")
        yield from at_least(self, 1, "mean_span")


@dataclasses.dataclass(frozen=True)
class Denoising(Objective):
    """A text with spans of noise as a pair. Batches have `tokens` and `segments`, int32 [B, T + 1].

    `pairs`: how pairs are learnt; its metrics are reported.
    """

    pairs: SequenceToSequence = SequenceToSequence()

    unit = "tokens"

    @property
    def demands(self) -> tuple[type, ...]:  # type: ignore[override]
        """The kinds of model that `pairs` trains."""
        return self.pairs.demands

    @property
    @abc.abstractmethod
    def mixture(self) -> tuple[Denoiser, ...]:
        """The denoisers, each as likely as any other."""

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes in use; mode i has the id V + i."""
        return tuple(dict.fromkeys(one.mode for one in self.mixture if one.mode))

    def same_targets(self, other):
        return type(self) is type(other) and self == dataclasses.replace(other, pairs=self.pairs)

    def extra_tokens(self, description):
        return len(self.modes) + self.sizes(description)[2]

    def table(self, description: Description) -> np.ndarray:
        """int32 [denoisers, 2, T + 2]: tokens of noise and spans of a text of 0 to T + 1 tokens."""
        ((length, *_), _) = description.arrays["tokens"]
        n = np.arange(length + 1)
        return np.stack([np.stack(counts(n, one.density, one.mean_span)) for one in self.mixture])

    def sizes(self, description: Description) -> tuple[int, int, int]:
        """Of any row of these data: tokens of a source and of a target at most, and sentinels."""
        noise, spans = self.table(description).swapaxes(0, 1)
        source = (np.arange(noise.shape[1]) - noise + spans).max() + bool(self.modes)
        return int(source), int((noise + spans + 1).max()), int(spans.max()) + 1

    def of_pairs(self, description: Description) -> Description:
        """What the pairs are described by."""
        (source, target, _), extra = self.sizes(description), self.extra_tokens(description)
        vocab, known = (description.vocab or 0) + extra, description.token_bytes
        if known is not None:
            known = np.concatenate([known, np.zeros(extra, known.dtype)])
        arrays = {name: ((size,), np.int32) for name, size in (("source", source), ("source_segments", source),
                  ("tokens", target), ("segments", target))}  # fmt: skip
        return dataclasses.replace(description, arrays=arrays, vocab=vocab, source_vocab=vocab, token_bytes=known)

    def needs(self, description):
        told = self.pairs.needs(self.of_pairs(description))
        what = f"the tokens of the data and the {self.extra_tokens(description)} of {type(self).__name__}"
        return {field: (least, what) for field, (least, _) in told.items() if field != "classes"}

    def refusals(self, model):
        yield from self.pairs.refusals(model)

    def build(self, description):
        task = self.pairs.build(self.of_pairs(description))
        return Task(lambda batch, keys: task.prepare(self.pair(batch, keys, description), keys), task.loss)

    def pair(self, batch: Mapping[str, jax.Array], keys: jax.Array, description: Description) -> Mapping[str, Any]:
        """`source`, `source_segments`, `tokens`, `segments` of every row."""
        vocab, (source, target, _) = description.vocab or 0, self.sizes(description)
        modes, table = self.modes, self.table(description)
        ids = np.array([vocab + modes.index(one.mode) if one.mode else -1 for one in self.mixture], np.int32)
        sizes, sentinel = (source - bool(modes), target), vocab + len(modes)

        def row(tokens: jax.Array, segments: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
            which_key, span_key = jax.random.split(key)
            which = jax.random.randint(which_key, (), 0, len(table))
            tokens = tokens[jnp.argsort(segments == 0, stable=True)]  # padding behind the text
            n = jnp.sum(segments > 0, dtype=jnp.int32)
            noise, spans = jnp.asarray(table)[which, :, n]
            mask = noise_mask(jax.random.uniform(span_key, tokens.shape), n, noise, spans)
            pair = corrupted(tokens, mask, n, sentinel, sizes)
            if not modes:
                return pair
            first = jnp.asarray(ids)[which, None].astype(tokens.dtype)
            told = jnp.pad(pair["source_segments"], (1, 0), constant_values=1)
            return {**pair, "source": jnp.concatenate([first, pair["source"]]), "source_segments": told}

        return jax.vmap(row)(batch["tokens"], batch["segments"], keys)

    def metrics(self, loss):
        return self.pairs.metrics(loss)


@dataclasses.dataclass(frozen=True)
class SpanCorruption(Denoising):
    """T5's: `density` of the tokens is noise, in spans of `mean_span` tokens on average."""

    density: float = 0.15
    mean_span: float = 3.0

    def problems(self):
        yield from super().problems()
        yield from Denoiser.problems(self)  # type: ignore[arg-type]

    @property
    def mixture(self):
        return (Denoiser(self.density, self.mean_span),)

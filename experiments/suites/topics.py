"""Steering by topic (arXiv 2310.17230, section 4.2): codes that fire on one topic of a labelled text are activated
while the model writes, and the words of that topic are counted.

A code is named for a topic by how much more often it fires there than elsewhere; a word is of a topic that has it
`RATIO` times as often as the others. Controls are codes that fire as often on the whole text, and of those the one
whose vector is nearest in length.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

import jax
import numpy as np

from arch.cost import abstract
from arch.decode.generate import generate
from arch.decode.sampling import Sample
from arch.decode.steered import Activate, Steered
from arch.models.base import Causal, Inputs, Seq2Seq
from arch.params import split
from arch.spec import Problem, at_least
from experiments.codes.effects import vectors_of
from experiments.codes.reading import Reader, counts_shape, not_alone, quantizer_of
from experiments.suites.base import Asked, Score
from experiments.suites.batches import batches
from experiments.suites.state_machine import taps_of
from train.data.pydoc_sections import PydocSections
from train.data.text import Text
from train.run import Run

RATIO, LEAST = 4.0, 5
"""Of a topic's words: how much more often it has them, and how often at least."""

NEAR = 4
"""Codes next to one in frequency, on either side, of which the control is the one nearest in length."""

WORD = re.compile(r"[a-z_]{3,}")
MODES = ("none", "one", "all", "random_one", "random_all")


@dataclasses.dataclass(frozen=True)
class TopicSteering(Score):
    """Share of the words written that are of a topic, a mean over topics: `topic_none_score` without codes activated,
    `topic_one_score` and `topic_all_score` with the topic's code of each layer in one or all of the k places,
    `topic_random_one_score` and `topic_random_all_score` with controls; `topic_gain_score` is all over none,
    `topic_all_margin_score` all less one, `topic_control_margin_score` all less random_all. Of a model without codes at
    `site`, nothing.

    `rows`: texts written for each topic and mode, of `new` tokens. `fires`: the share of a topic's tokens that its code
    fires on, at least.
    """

    kinds: ClassVar[tuple[type, ...]] = (Causal,)

    rows: int = 32
    site: str = "mlp_out"
    new: int = 48
    fires: float = 0.002

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "new")
        yield from at_least(self, 0, "fires")

    def refusal(self, run: Run) -> str:
        if not (isinstance(run.data, Text) and isinstance(run.data.source, PydocSections)):
            return "TopicSteering needs text whose topics are known: Text(source=PydocSections())"
        if isinstance(run.model, Seq2Seq):
            return "TopicSteering scores models of one stack; an encoder-decoder has two"
        return super().refusal(run) or not_alone(abstract(run.model), self.site)

    def measure(self, asked):
        model, tokenizer, source = asked.opened.model, asked.opened.dataset.tokenizer, asked.run.data.source
        texts = list(source.build().columns("train", "text", "section"))
        counts = self._counts(asked, texts)
        if counts is None:
            return {}
        reader = Reader(asked.opened)
        (site,) = (one for one in reader.sites if one.name == self.site)
        table = vectors_of(reader, site).reshape(site.layers, site.groups, site.size, -1)
        words = {topic: topic_words(texts, topic) for topic in counts}
        plans: list[tuple[Activate, ...]] = []
        for topic in counts:
            rest = np.sum([other for name, other in counts.items() if name != topic], axis=0)
            named = named_codes(counts[topic], rest, self.fires)
            control = controls(named, counts[topic] + rest, np.linalg.norm(table, axis=-1))
            for mode in MODES:
                which = control if mode.startswith("random") else named
                slots = "one" if mode.endswith("one") else "all"
                plan = [Activate(self.site, layer, int(which[layer, group]), group, slots)  # type: ignore[arg-type]
                        for layer, group in np.ndindex(which.shape)]  # fmt: skip
                plans += [() if mode == "none" else tuple(plan)] * self.rows
        told = {"strategy": Steered(Sample(), tuple(plans)), "key": jax.random.key(0), "stop": tokenizer.eos}
        out = generate(model, [[tokenizer.bos]] * len(plans), self.new, **told)
        written = [tokenizer.decode(row[:length].tolist()) for row, length in zip(out.tokens, out.lengths, strict=True)]
        rates = np.zeros(len(MODES))
        for place, (topic, mode) in enumerate(np.ndindex(len(words), len(MODES))):
            part = written[place * self.rows : (place + 1) * self.rows]
            rates[mode] += word_rate(part, list(words.values())[topic]) / len(words)
        by_mode = dict(zip(MODES, rates.tolist(), strict=True))
        none, one, whole = by_mode["none"], by_mode["one"], by_mode["all"]
        return {f"topic_{mode}_score": rate for mode, rate in by_mode.items()} | {
            "topic_gain_score": whole / none if none else float("nan"),
            "topic_all_margin_score": whole - one,
            "topic_control_margin_score": whole - by_mode["random_all"],
        }

    def _counts(self, asked: Asked, texts: Sequence[tuple[str, ...]]) -> dict[str, np.ndarray] | None:
        """Topic -> how often each code fires on its text, [L, G, C]; None: the model has no such codes."""
        tokenizer, model = asked.opened.dataset.tokenizer, asked.opened.model
        parts, found = split(model), dict[str, np.ndarray]()
        length = asked.rows["tokens"].shape[1] - 1
        rows = [[tokenizer.bos, *tokenizer.encode(text)][:length] for text, _ in texts]
        topics = [section for _, section in texts]
        for which, tokens, segments in batches(rows, asked.batch, length):
            taps = taps_of(rf"{re.escape(self.site)}\.codes", *parts, Inputs(tokens, None, segments))
            if not taps:
                return None
            (codes,) = jax.device_get(list(taps.values()))  # [L, B, T, (G,) k]
            codes = codes if codes.ndim > 4 else codes[..., None, :]
            size = counts_shape(quantizer_of(model, self.site))[-1]
            sets = np.arange(codes.shape[0] * codes.shape[3]).reshape(codes.shape[0], 1, 1, codes.shape[3], 1)
            numbers = sets * size + codes
            for place, row in enumerate(which):
                fires = numbers[:, place][:, segments[place] > 0]
                count = np.bincount(fires.reshape(-1), minlength=sets.size * size)
                of = found.setdefault(topics[row], np.zeros((codes.shape[0], codes.shape[3], size), np.int64))
                of += count.reshape(of.shape)
        return dict(sorted(found.items()))


def named_codes(here: np.ndarray, rest: np.ndarray, fires: float) -> np.ndarray:
    """int [L, G], the code of each set that fires most often here as against the rest, each with one added, of those
    that make at least `fires` of what fires here. `here`, `rest`: int [L, G, C]."""
    rates = [(counts + 1) / (counts + 1).sum(axis=-1, keepdims=True) for counts in (here, rest)]
    enough = here >= np.maximum(fires * here.sum(axis=-1, keepdims=True), 1)
    return np.asarray(np.argmax(np.where(enough, rates[0] / rates[1], 0.0), axis=-1))


def controls(named: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """For each code in `named` [L, G] another of the `NEAR` next more or less frequent in `counts` [L, G, C], of these
    the one nearest in `lengths` [L, G, C]. A code that fires alone stays."""
    found = named.copy()
    for place in np.ndindex(named.shape):
        order = np.argsort(-counts[place], kind="stable")[: int((counts[place] > 0).sum())]
        rank = int(np.flatnonzero(order == named[place])[0])
        near = [int(code) for code in order[max(rank - NEAR, 0) : rank + NEAR + 1] if code != named[place]]
        if near:
            off = np.abs(lengths[place][near] - lengths[place][named[place]])
            found[place] = near[int(off.argmin())]
    return found


def topic_words(texts: Sequence[tuple[str, ...]], topic: str) -> set[str]:
    """The words of a topic in (text, topic) pairs, in lower case."""
    here: Counter[str] = Counter()
    rest: Counter[str] = Counter()
    for text, name in texts:
        (here if name == topic else rest).update(WORD.findall(text.lower()))
    share, other = max(here.total(), 1), max(rest.total(), 1)
    return {
        word
        for word, count in here.items()
        if count >= LEAST and count / share >= RATIO * (rest[word] + 1) / (other + 1)
    }


def word_rate(texts: Sequence[str], words: set[str]) -> float:
    """Share of all words of some texts that are in `words`; 0 of no words."""
    found = [word for text in texts for word in WORD.findall(text.lower())]
    return sum(word in words for word in found) / max(len(found), 1)

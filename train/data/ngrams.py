"""N-gram models of the targets of next-token prediction: unigram, bigram and trigram.

Unigram: p(c) = (n(c) + 1/2) / (N + V/2), the estimator of Krichevsky and Trofimov. Each longer model is absolute
discounting interpolated with the next shorter one (Ney, Essen and Kneser 1994), for a context h of one token or two,

    p(c | h) = max(n(h, c) - d, 0) / n(h) + d k(h) / n(h) p(c | h without its first token),

where k(h) is the number of different tokens seen after h; after an h that was never seen the shorter model predicts. So
it does where a piece has no second token before the target. The discounts d, one for each length, and with them the
weight of the shorter model, are those that predict the last tenth of the training targets best from the rest; all of
them are then counted. Targets are those of the rows, every token but the first of each piece, and eos too. Of very
large training data the first 34 million targets are counted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from train.data.baselines import Baseline
from train.data.grams import Grams, count_grams, target_count
from train.data.rows import Rows

NAMES = ("unigram", "bigram", "trigram")
MOST = 1 << 25
CODES = 1 << 63
DISCOUNTS = np.linspace(0.02, 0.98, 49)


def ngram_baselines(
    train: Rows, held_out: Rows, vocab: int, token_bytes: np.ndarray | None = None
) -> tuple[Baseline, ...]:
    """The n-gram models of `train` on the targets of `held_out`, whose tokens are below `vocab`.

    `token_bytes` [vocab] are the bytes of text that each token stands for. Values are `loss`, nats a target, and with
    `token_bytes` also `bits_per_byte`. The trigram is left out for a vocabulary whose triples have no int64 codes. No
    targets: no baselines.
    """
    order = 3 if (vocab + 1) * vocab**2 <= CODES else 2
    used = min(target_count(train), MOST)
    fitted, tail = count_grams(train, vocab, order, (0, used - used // 10, used))
    (unseen,) = count_grams(held_out, vocab, order, (0, target_count(held_out)))
    if not used or not unseen.total:
        return ()
    seen = Grams.joined([fitted, tail])
    found = []
    for name, p in zip(NAMES, probabilities(seen, unseen.codes, fit_discounts(fitted, tail, order)), strict=False):
        nats = float(-(unseen.counts * np.log(p)).sum())
        values = {"loss": nats / unseen.total}
        if token_bytes is not None:
            values["bits_per_byte"] = nats / (math.log(2.0) * max(float(unseen.by_token() @ token_bytes), 1.0))
        found.append(Baseline(name, values, bar=name == "bigram"))
    return tuple(found)


def fit_discounts(seen: Grams, unseen: Grams, order: int) -> list[float]:
    """The discounts for two tokens up to `order`, each the best of `DISCOUNTS` on `unseen` given those before it."""
    chosen: list[float] = []
    for length in range(2, order + 1):
        lower, level = probabilities(seen, unseen.codes, chosen)[-1], Level.of(seen, unseen.codes, length)
        losses = [-(unseen.counts * np.log(level.mixed(float(d), lower))).sum() for d in DISCOUNTS]
        chosen.append(float(DISCOUNTS[int(np.argmin(losses))]) if unseen.total else 0.5)
    return chosen


def probabilities(seen: Grams, codes: np.ndarray, discounts: Sequence[float]) -> list[np.ndarray]:
    """p [grams] of the last token of each gram given those before it: unigram, and a longer model a discount."""
    counts = seen.by_token()
    found = [((counts + 0.5) / (counts.sum() + 0.5 * seen.vocab))[codes % seen.vocab]]
    for length, discount in enumerate(discounts, start=2):
        found.append(Level.of(seen, codes, length).mixed(discount, found[-1]))
    return found


@dataclasses.dataclass(frozen=True)
class Level:
    """What training has seen of some grams [grams]: n(h, c), n(h) and k(h) of the formula."""

    together: np.ndarray
    context: np.ndarray
    followers: np.ndarray

    @classmethod
    def of(cls, seen: Grams, codes: np.ndarray, length: int) -> Level:
        """Of the last `length` tokens of the grams `codes`."""
        whole, codes = seen.last(length), codes if seen.order == length else codes % seen.vocab**length
        contexts = whole.codes // seen.vocab
        edges = np.flatnonzero(np.diff(contexts, prepend=-1))
        totals = np.add.reduceat(whole.counts, edges) if len(edges) else whole.counts
        kinds = np.diff(edges, append=len(contexts))
        wanted = codes // seen.vocab
        return cls(
            _found(whole.codes, whole.counts, codes),
            _found(contexts[edges], totals, wanted),
            _found(contexts[edges], kinds, wanted),
        )

    def mixed(self, discount: float, lower: np.ndarray) -> np.ndarray:
        """p [grams], given `lower`, that of the shorter model."""
        known = np.maximum(self.context, 1)
        p = (np.maximum(self.together - discount, 0.0) + discount * self.followers * lower) / known
        return np.where(self.context > 0, p, lower)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each of `wanted` in a sorted table, 0 where it is not there."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)

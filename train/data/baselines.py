"""What a model that only counts reaches on a split: the number that a trained model has to beat.

The models are `ngrams` for text, and `label_counts` and `naive_bayes` for labels. An objective chooses those that
predict what it trains for (`Objective.baselines`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A model that counted the training split, and how well it predicts another.

    Attributes:
      name: of the model: "bigram", "majority", ...
      values: name -> value of the objective's metrics, without a split: `loss` in nats, `bits_per_byte`, `accuracy`.
      bar: whether a model that does not beat it has learned nothing worth comparing. One of a set is.
    """

    name: str
    values: Mapping[str, float]
    bar: bool = False

"""Fine-tuned on two renderings of a text: do both say the same? Neighbours of the same document are what does not.

Most tasks that encoders and decoders are fine-tuned for read two texts (GLUE, in Ettin, arXiv 2507.11412).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from arch.spec import UserError
from experiments.suites.fine_tuned import SameText
from experiments.suites.ranks import auc
from train.data.base import Dataset
from train.data.baselines import Baseline
from train.data.bible import BibleVerses
from train.data.labelled import LabelledDataset
from train.data.parallel import ParallelSource
from train.data.same_pair import same_pair
from train.run import Run


@dataclasses.dataclass(frozen=True)
class SamePair(SameText):
    """Whether the two sides of `pairs` belong together (`train.data.same_pair`): `same_pair_accuracy` and
    `same_pair_auc_score`; chance is 0.5 for both.

    The model's tokenizer reads both sides, as many tokens of each as the model was trained on.
    """

    pairs: ParallelSource = BibleVerses(target="kjv")

    def refusal(self, run: Run) -> str:
        return super().refusal(run) or ("" if run.data.describe().text else "SamePair reads text by the tokenizer of "
                                        f"the data, and {type(run.data).__name__} is no running text")  # fmt: skip

    def measure(self, asked):
        return self.told(asked, self.dataset(asked.opened.dataset, asked.split), "same_pair")

    def baselines(self, dataset, split):
        """Tokens that both sides have in common: the cosine of how often each occurs."""
        rows = self.dataset(dataset, split).rows[split]
        batch = rows.gather(np.arange(min(self.rows, len(rows))))
        one, other = (_counts(batch[f"tokens{side}"], batch[f"segments{side}"], dataset.vocab) for side in ("", "2"))
        cosine = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        return (Baseline("shared tokens", {"same_pair_auc_score": auc(cosine, batch["label"] == 1)}),)

    def dataset(self, plain: Dataset, split: str) -> LabelledDataset:
        """The task in the tokens of `plain`. Raises UserError for a split that `pairs` do not have."""
        if split not in self.pairs.splits:
            raise UserError(f"SamePair.pairs: {type(self.pairs).__name__} has no split {split!r}, which is scored")
        tokenizer = getattr(plain, "tokenizer", None)
        if tokenizer is None:
            raise UserError("SamePair needs a model of text; the data of this one has no tokenizer")
        length = plain.description.arrays["tokens"][0][0] - 1
        return same_pair(self.pairs, tokenizer, length, plain.description, self.seed)


def _counts(tokens: np.ndarray, segments: np.ndarray, vocab: int) -> np.ndarray:
    """float64 [b, vocab]: how often each token occurs in each row."""
    there = np.nonzero(segments > 0)
    found = np.zeros((len(tokens), vocab))
    np.add.at(found, (there[0], tokens[there]), 1.0)
    return found

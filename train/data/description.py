"""What data says of itself before it is built: arrays, vocabulary, classes, special tokens, splits.

Models, objectives, estimates and the checks of a run read this; nothing has to be fetched or trained for it. What only
building can tell (the bytes of each token of a BPE that is still to be trained) is None until then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Description:
    """A data set in facts.

    Attributes:
      arrays: name -> (shape of one row, dtype) of the arrays of a batch.
      splits: the names of its splits: "train", and those to evaluate on ("validation", "test", ...).
      vocab: V, token ids are below it; None: no tokens.
      source_vocab: of pairs of texts, V of the source, whose arrays begin with "source"; None: there is no source.
      classes: how many labels there are; None: no labels, or not known before it is built.
      token_bytes: UTF-8 bytes that each token stands for, [V]; None: no tokens, or not known before it is built.
      mask: id of the mask token; None: there is none.
      separator: id of the token between two texts; None: there is none.
      text: whether rows are running text in the tokens of `dataset.tokenizer`, in which a prompt can be continued.
    """

    arrays: Mapping[str, tuple[Shape, Any]]
    splits: tuple[str, ...] = ("train", "validation")
    vocab: int | None = None
    source_vocab: int | None = None
    classes: int | None = None
    token_bytes: np.ndarray | None = None
    mask: int | None = None
    separator: int | None = None
    text: bool = False

    def batch(self, rows: int) -> dict[str, tuple[Shape, Any]]:
        """Name -> (shape, dtype) of the arrays of a batch of `rows`, and the `row` numbers that all batches carry."""
        arrays = {name: ((rows, *shape), dtype) for name, (shape, dtype) in self.arrays.items()}
        return {**arrays, "row": ((rows,), np.int32)}

    @property
    def special(self) -> tuple[int, ...]:
        """The ids that stand for no text: mask and separator, and every token of no bytes where bytes are known."""
        named = {id_ for id_ in (self.mask, self.separator) if id_ is not None}
        if self.token_bytes is not None and np.any(self.token_bytes):
            named |= set(np.flatnonzero(self.token_bytes == 0).tolist())
        return tuple(sorted(named))

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The splits that are evaluated on: all but "train"."""
        return tuple(split for split in self.splits if split != "train")


def prefix(split: str) -> str:
    """What the metrics of a split are called by: "val" for validation, as in `val/loss`; the others by their names."""
    return "val" if split == "validation" else split

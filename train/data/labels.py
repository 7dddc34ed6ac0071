"""Labels as they are found: -1 says that a row has none, by the convention of TFDS; every other one is a class."""

from __future__ import annotations

import logging

import numpy as np

from arch.spec import UserError

UNKNOWN = -1
_log = logging.getLogger(__name__)


def labelled(labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Which of the rows with these `labels` [n] have one. A line counts those that have none.

    Raises UserError for a label that is no class, or if none is labelled.
    """
    refuse_strange(labels, classes, where)
    found = np.flatnonzero(labels != UNKNOWN)
    if not len(found):
        raise UserError(f"{where}: none of {len(labels)} records is labelled (all are {UNKNOWN}); give another split")
    if len(found) < len(labels):
        _log.warning("%s: %d of %d records have no label (%d); they are left out",
                     where, len(labels) - len(found), len(labels), UNKNOWN)  # fmt: skip
    return found


def refuse_strange(labels: np.ndarray, classes: int, where: str) -> None:
    """Raises UserError for a label that is neither a class nor unknown."""
    wrong = np.flatnonzero((labels != UNKNOWN) & ((labels < 0) | (labels >= classes)))
    if len(wrong):
        raise UserError(f"{where}: record {wrong[0]} has the label {labels[wrong[0]]}; labels are 0 to {classes - 1}, "
                        f"or {UNKNOWN} where there is none ({len(wrong)} such records)")  # fmt: skip

"""What a score shows beside its numbers: matrices and pictures, kept in the results and drawn in the report.

A score yields them from `show`; neither the report nor the study has to know of the score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Numbers by two things, drawn for every arm as the mean over its seeds.

    Attributes:
      title: what they are; two of one cell have different ones.
      rows, columns: names along both sides.
      values: a list for each row.
      down, across: what the rows and the columns are.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    down: str = ""
    across: str = ""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Grey pictures of one size with a name below each, drawn for every arm from its first seed.

    Attributes:
      title: what they are.
      names: of each.
      values: of each, a list for every line of pixels, from 0 (white) to 1 (black).
      caption: for the reader.
    """

    title: str
    names: Sequence[str]
    values: Sequence[Sequence[Sequence[float]]]
    caption: str = ""


Exhibit = Matrix | Pictures


def rounded(values: Any) -> Any:
    """An array as lists, to four places."""
    return np.round(np.asarray(values, np.float64), 4).tolist()

"""What a study's suite measured of each arm, and what models that learn nothing reach in the same scores."""

from __future__ import annotations

import math
from typing import Any

from experiments.study.report.table import Table
from experiments.study.results import Results

PREFIX = "suite/"


def scores(results: Results) -> Table:
    """Arm by score: the mean over the seeds that were trained to the end. Below the arms stand the baselines that have
    any of these scores."""
    names = list(dict.fromkeys(name for cell in results.cells for name in cell.metrics if name.startswith(PREFIX)))
    rows: dict[tuple[Any, ...], None] = {}
    for arm in results.arms if names else ():
        means = []
        for name in names:
            found = [value for value in results.values(arm.name, name).values() if math.isfinite(value)]
            means.append(math.fsum(found) / len(found) if found else None)
        rows[(arm.name, *means)] = None
    for row in results.baselines if names else ():
        if any(name in row["values"] for name in names):  # arms of other objectives on the same rows: the same line
            rows[(row["name"], *(row["values"].get(name) for name in names))] = None
    columns = (name.removeprefix(PREFIX).replace("_", " ") for name in names)
    return Table("scores", ("arm", *columns), tuple(rows))

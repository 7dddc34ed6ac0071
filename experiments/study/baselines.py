"""What counting reaches on the data of a study: rows that stand beside its arms, and a bar that they have to pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.study.study import Study
from train.data.description import prefix
from train.evaluate import TEST
from train.record.identity import digest
from train.run import Run


def data_name(run: Run) -> str:
    """What `Arm.data` calls the data of a run: arms of the same data and objective have the same rows and targets."""
    return digest([repr(run.data), repr(run.objective)])[:12]


def baselines(study: Study) -> list[dict[str, Any]]:
    """The rows of `Results.baselines`, weakest first, of the split that claims are judged on: of the objective of each
    data set, then of the scores of the suite.

    Raises:
      UserError: data that is not there.
    """
    split = TEST if study.has_test else "validation"
    found = []
    for name, run in {data_name(run): run for run in study.arms.values()}.items():
        dataset = run.data.build()
        if split not in dataset.rows:
            continue
        told = [(prefix(split), one) for one in run.objective.baselines(dataset, split)]
        asked = [one for one in study.suite if not one.refusal(run)]
        told += [("suite", one) for score in asked for one in score.baselines(dataset, split)]
        for begin, one in told:
            values = {f"{begin}/{metric}": float(value) for metric, value in one.values.items()}
            found.append({"data": name, "name": one.name, "bar": one.bar, "values": values})
    return found


def lines(found: Sequence[Mapping[str, Any]], metric: str) -> Iterator[str]:
    """What each data set's baselines reach in `metric`."""
    for data in dict.fromkeys(row["data"] for row in found):
        rows = [row for row in found if row["data"] == data and metric in row["values"]]
        told = ", ".join(
            f"{row['name']} {row['values'][metric]:.4g}{' (the bar)' if row['bar'] else ''}" for row in rows
        )
        if told:
            yield f"baselines, {metric}: {told}"

"""Runs that were made separately, side by side: what differs between them, what they cost, what they reached.

Runs that differ in nothing but the seed are repeats of one arm. The first run's arm is the baseline: what differs is
told against it, and with enough seeds it is judged which arms are better. The metric decides what can be compared:
val/bits_per_byte across tokenizers, any other on equal data only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arch.spec import SpecError, UserError, differences, flatten
from experiments.config import render
from experiments.config.errors import ConfigError
from experiments.study.claims.claims import Better
from experiments.study.claims.judge import judge_all
from experiments.study.claims.measured import lower_is_better
from experiments.study.match import shape
from experiments.study.results import Arm, Cell, Results
from experiments.study.sweeps.names import point_names, short_paths
from train.record import metrics
from train.record.folder import FREE
from train.record.reporter import TIMES
from train.run import Run

PREFERRED = ("val/bits_per_byte", "val/loss")
ACROSS = dict.fromkeys(("val/bits_per_byte", "test/bits_per_byte"), ("tokenizer", "length"))
"""Metric -> the fields of the data that may differ, because it counts the same text whatever they are."""

NAME_LENGTH = 60


@dataclasses.dataclass(frozen=True)
class Found:
    """A run folder as it was read; `lines` are those of its metrics.jsonl."""

    folder: str
    run: Run
    lines: Sequence[Mapping[str, Any]]

    @property
    def step(self) -> int:
        """The last step in the metrics."""
        return int(self.lines[-1]["step"])

    @property
    def diverged(self) -> bool:
        """Whether the last step was not finite."""
        return not _finite(self.lines[-1])

    def along(self, metric: str) -> list[float]:
        """The values of `metric`, in the order of the steps."""
        return [line[metric] for line in self.lines if metric in line]

    def measured(self) -> list[str]:
        """The metrics of what is evaluated on: validation, test and further sets."""
        names = {name for line in self.lines for name in line}
        return sorted(name for name in names if "/" in name and not name.startswith("train/"))


def gather(
    folders: Sequence[str], metric: str | None = None, *, trust: bool = False
) -> tuple[Results, dict[str, list[Found]]]:
    """The runs in `folders` as the results of a study, and its arms' runs by name.

    Args:
      folders: of runs, the baseline first; also `gs://`.
      metric: what is compared; None: bits per byte if all have it, else the loss.
      trust: as of `render.read`.

    Raises:
      ConfigError: a line for each folder that is no run, has measured nothing, or does not compare with the first.
    """
    found, wrong = [], []
    for folder in dict.fromkeys(folder.rstrip("/") for folder in folders):
        try:
            found.append(_read(folder, trust))
        except UserError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise ConfigError(wrong)
    metric = metric or next((name for name in PREFERRED if all(name in one.measured() for one in found)), PREFERRED[-1])
    wrong = [line for one in found for line in _mismatch(found[0], one, metric)]
    if wrong:
        raise ConfigError(wrong)
    lower = lower_is_better(Results("", "", "", True, (), ()), metric)
    arms = _arms(found)
    results = Results(
        name="compare",
        question=f"How do {len(found)} runs made separately compare in {metric}?",
        metric=metric,
        lower_is_better=lower,
        arms=[Arm(name, _shape(name, arms), runs[0].run.optimizer.learning_rate) for name, runs in arms.items()],
        cells=[_cell(name, one, metric, lower) for name, runs in arms.items() for one in runs],
        notes=list(_notes(found)),
        provenance={"runs": {one.folder: name for name, runs in arms.items() for one in runs}},
    )
    return dataclasses.replace(results, verdicts=[verdict.plain() for verdict in _verdicts(results)]), arms


def changed(arms: Mapping[str, Sequence[Found]]) -> dict[str, list[str]]:
    """Arm -> lines `path: baseline's -> its own` for the fields in which it differs from the first arm."""
    bare = {name: _bare(runs[0].run) for name, runs in arms.items()}
    first, *others = bare
    return {name: differences(bare[first], bare[name]) for name in others}


def best_of(values: Sequence[float], lower: bool) -> float:
    """The best that is a number."""
    numbers = [value for value in values if math.isfinite(value)]
    return math.nan if not numbers else min(numbers) if lower else max(numbers)


def _read(folder: str, trust: bool) -> Found:
    run = render.read(folder, trust=trust)
    if not isinstance(run, Run):
        raise UserError(f"{folder}: holds a {type(run).__name__}, not a run")
    found = Found(folder, run, metrics.read(folder))
    if any(isinstance(value, list) for line in found.lines for value in line.values()):
        raise UserError(f"{folder}: holds replicas side by side, a part of a study; see the study's own report")
    if not found.measured():
        raise UserError(f"{folder}: has no validation metrics yet; train it first")
    return found


def _mismatch(first: Found, one: Found, metric: str) -> list[str]:
    """Why `one` does not compare with `first`, in lines."""
    if metric not in one.measured():
        return [f"{one.folder}: measures no {metric}; it has {', '.join(one.measured())}"]
    ours, theirs = type(one.run.objective), type(first.run.objective)
    if ours is not theirs:
        what = f"objective: {theirs.__name__} -> {ours.__name__}"
        return [f"{one.folder}: has another objective than {first.folder} ({what}), so {metric} does not compare"]
    free = ACROSS.get(metric, ())
    lines = [line for line in differences(first.run.data, one.run.data) if line.split(":")[0].split(".")[0] not in free]
    if not lines:
        return []
    tokens = all(line.startswith("tokenizer") for line in lines) and "val/bits_per_byte" in one.measured()
    instead = "; val/bits_per_byte does" if tokens else ""
    return [
        f"{one.folder}: has other data than {first.folder} ({'; '.join(lines)}), so {metric} does not compare{instead}"
    ]


def _bare(run: Run) -> dict[str, Any]:
    """What sets arms apart: all fields but the seed and those that do not change results."""
    return {path: value for path, value in flatten(run).items() if path.partition(".")[0] not in ("seed", *FREE)}


def _arms(found: Sequence[Found]) -> dict[str, list[Found]]:
    """The runs by arm. Runs that are equal with the same seed differ in code or machine: each is an arm then."""
    groups: dict[str, list[Found]] = {}
    for one in found:
        groups.setdefault(repr(_bare(one.run)), []).append(one)
    repeats = []
    for group in groups.values():
        distinct = len({one.run.seed for one in group}) == len(group)
        repeats += [group] if distinct else [[one] for one in group]
    return dict(zip(_names(repeats), repeats, strict=True))


def _names(groups: Sequence[Sequence[Found]]) -> list[str]:
    """What each arm is called: by what differs, if that is short and tells them apart, else by its first folder."""
    points = list(_points([group[0] for group in groups]))
    names = point_names(points)
    clear = all(points) and not any(" #" in name for name in names)
    if clear and max(map(len, names)) <= NAME_LENGTH:
        return names
    names = [Path(group[0].folder).name for group in groups]
    return names if len(set(names)) == len(names) else [group[0].folder.replace("/", "|") for group in groups]


def _points(first: Sequence[Found]) -> list[dict[str, Any]]:
    """For each arm its values of the fields that differ between any; of parts that differ, not their fields too."""
    bare = [_bare(one.run) for one in first]
    paths = list(dict.fromkeys(path for fields in bare for path in fields))
    differ = [path for path in paths if len({repr(fields.get(path)) for fields in bare}) > 1]
    outer = [path for path in differ if not any(path.startswith(f"{other}.") for other in differ)]
    return [{path: fields[path] for path in outer if path in fields} for fields in bare]


def _shape(name: str, arms: Mapping[str, Sequence[Found]]) -> dict[str, float | int | str]:
    """The row of an arm: what differs, and what it costs."""
    point = dict(zip(arms, _points([runs[0] for runs in arms.values()]), strict=True))[name]
    short = short_paths(list(point))
    row = {short[path]: value if isinstance(value, (int, float, str)) else str(value) for path, value in point.items()}
    run = arms[name][0].run
    try:
        costs = shape(run)
    except SpecError as error:
        raise UserError(
            f"{arms[name][0].folder}: can no longer be built: {'; '.join(str(error).splitlines())}"
        ) from error
    row |= {**costs, "steps": run.steps}
    if "train_flops" in costs:
        row["total_flops"] = float(costs["train_flops"]) * run.batch * run.steps
    return row


def _cell(name: str, one: Found, metric: str, lower: bool) -> Cell:
    last: dict[str, float] = {}
    for line in one.lines:
        if _finite(line):
            last |= {key: value for key, value in line.items() if key != "step" and key not in TIMES}
    last[f"best {metric}"] = best_of(one.along(metric), lower)
    return Cell(
        arm=name,
        phase="seeds",
        seed=one.run.seed,
        learning_rate=one.run.optimizer.learning_rate,
        status="diverged" if one.diverged else "finished",
        metrics=last,
        curve=[{key: value for key, value in line.items() if key not in TIMES} for line in one.lines],
    )


def _finite(line: Mapping[str, Any]) -> bool:
    return all(math.isfinite(value) for value in line.values())


def _notes(found: Sequence[Found]) -> list[str]:
    notes = []
    for one in found:
        if one.diverged:
            notes.append(f"{one.folder}: diverged at step {one.step:,} of {one.run.steps:,}")
        elif one.step < one.run.steps:
            notes.append(
                f"{one.folder}: is not finished, step {one.step:,} of {one.run.steps:,}; its metrics are of then"
            )
    for field in dict.fromkeys(name for names in ACROSS.values() for name in names):
        if len({repr(getattr(one.run.data, field, None)) for one in found}) > 1:
            notes.append(f"the runs differ in data.{field}; bits per byte are of the same text all the same")
    return notes


def _verdicts(results: Results) -> Sequence[Any]:
    """Which arms are better than the first, for those that share at least two seeds with it."""
    first, *others = [arm.name for arm in results.arms]
    seeds = {arm.name: set(results.values(arm.name)) for arm in results.arms}
    claims = [Better(name, first) for name in others if len(seeds[name] & seeds[first]) > 1]
    return judge_all(claims, results, primary=False) if claims else ()

"""The model card: README.md of an exported folder, YAML header first. Its numbers are those of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arch import cost
from arch.hf.parity import Parity
from arch.models.base import Bidirectional, Causal, Seq2Seq, TextEmbedding
from arch.spec import flatten
from experiments.study.results import Results
from train.record import metrics
from train.run import Run

PIPELINES = ((Seq2Seq, "translation"), (Causal, "text-generation"), (Bidirectional, "fill-mask"),
             (TextEmbedding, "feature-extraction"))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Told:
    """What the card is made of.

    Attributes:
      name: of the folder.
      run: what was trained.
      step: of the checkpoint.
      metrics: name -> value of the last evaluation at that step.
      tier, reason: how it is written, see `arch.hf.tiers`.
      architecture: the class that opens it.
      dtype: of the numbers.
      parity: with Transformers; None: it was not measured.
      verdicts: of the study that the run is an arm of, as its results hold them.
      study: its name and the name of the arm; "" if there is none.
    """

    name: str
    run: Run
    step: int
    metrics: Mapping[str, float]
    tier: str
    reason: str
    architecture: str
    dtype: str
    parity: Parity | None = None
    verdicts: Sequence[Mapping[str, Any]] = ()
    study: str = ""


def card(told: Told) -> str:
    """The text of README.md."""
    run, model = told.run, told.run.model
    counts = cost.parameters(model)
    pipeline = next((word for kind, word in PIPELINES if isinstance(model, kind)), None)
    header = ["---", "library_name: transformers", *([f"pipeline_tag: {pipeline}"] if pipeline else []),
              "tags:", "- strata", "- jax", "---"]  # fmt: skip
    lines = [*header, "", f"# {told.name}", ""]
    lines += [
        f"Written as a {told.tier}: {told.reason}. Numbers are {told.dtype}.",
        "",
        "## How it was trained",
        "",
    ]
    facts = {
        "data": type(run.data).__name__ + _source(run.data),
        "objective": type(run.objective).__name__,
        "optimizer": f"{type(run.optimizer).__name__}, learning rate {run.optimizer.learning_rate:g}",
        "updates": f"{told.step:,} of {run.steps:,}, {run.batch} rows each",
        "seed": str(run.seed),
        "parameters": f"{counts.total:,}: embedding {counts.embedding:,}, body {counts.body:,}, head {counts.head:,}",
    }
    if run.start is not None:
        facts["started from"] = Path(getattr(run.start, "folder", type(run.start).__name__)).name
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items())]
    if told.metrics:
        lines += ["", "## What it reached", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value:.6g} |" for name, value in told.metrics.items()]
    if told.study:
        lines += ["", "## The study", "", _cell(told.study), ""]
        lines += [f"- {one['verdict']}: {one['claim']}" for one in told.verdicts]
    lines += ["", "## Checked", "", _parity(told.parity), "", "## Configuration", "", "```"]
    lines += [f"{path} = {value}" for path, value in flatten(model).items() if path]
    return "\n".join([*lines, "```", ""])


def _source(data: Any) -> str:
    source = getattr(data, "source", None) or getattr(data, "pairs", None)
    return f" of {type(source).__name__}" if source is not None else ""


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _parity(parity: Parity | None) -> str:
    if parity is None:
        return "Logits were not compared with Transformers."
    most = f"{parity.folder:.1e} with the numbers in this folder, {parity.run:.1e} with those that were trained"
    return (f"Largest difference of logits from Transformers, on {parity.tokens} random tokens in float32, as a share "
            f"of the largest logit: {most}.")  # fmt: skip


def reached(results: Results, arm: str | None, seed: int) -> dict[str, float]:
    """Name -> value at the end of one seed of an arm."""
    found = [cell for cell in results.cells if (cell.arm, cell.phase, cell.seed) == (arm, "seeds", seed)]
    return {name: value for cell in found for name, value in cell.metrics.items() if not name.startswith("train/")}


def last_metrics(folder: Path, step: int) -> dict[str, float]:
    """Name -> value of the evaluation after `step`, from metrics.jsonl; nothing where there is none."""
    found: dict[str, float] = {}
    for row in reversed(metrics.of_step(folder, step)):
        found |= {name: value for name, value in row.items() if "/" in name and isinstance(value, (int, float))}
    return {name: value for name, value in found.items() if not name.startswith("train/")} or found

"""What `launch.py train` does with a study, and with a sweep over a run: trains, decides, reports."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arch.spec import UserError
from experiments.config import render
from experiments.config.flags import Command
from experiments.config.load import split
from experiments.study.engine import run_study
from experiments.study.report.report import terminal_table, write_kept, write_report
from experiments.study.report.sample import sample
from experiments.study.study import Study
from experiments.study.sweeps.sweep import arms
from experiments.study.sweeps.sweep_text import from_text
from experiments.study.work.cells import KEY, Cells
from experiments.study.work.executors import Executor, InProcess
from experiments.study.work.folder import claim
from experiments.study.work.ray_executor import Ray
from train.objectives.next_token import NextToken
from train.run import Run


@dataclasses.dataclass(frozen=True)
class Options:
    """How a study is carried out.

    Attributes:
      sweep: what to vary, as text; for a run.
      seeds: how often each point of a sweep is trained; None: once.
      cells: folder of cells shared with other studies; None: the study's own.
      executor: "in_process" or "ray".
      ray_address: of the cluster; None: Ray on this machine.
      resources: what a task takes on Ray, as ("cpus=4", "gpus=1", "TPU=4").
      results: folder that gets the results and the report as well.
      trust_cells: whether cells that other code has trained are taken.
    """

    sweep: str | None = None
    seeds: int | None = None
    cells: str | None = None
    executor: str = "in_process"
    ray_address: str | None = None
    resources: Sequence[str] = ()
    results: str | None = None
    trust_cells: bool = False


def train_study(command: Command, folder: str, options: Options) -> None:
    """Trains what is missing of the study in `folder`, and ends with table, verdicts and the place of the report.

    Raises:
      UserError: a folder that is something else or cannot be made, a sweep over a study, cells that failed.
    """
    study, at = _study(command, options), Path(folder)
    executor = _executor(options)
    file, form = split(command.reference)
    name = ".".join(filter(None, (Path(file).stem, form))) or at.name
    _refuse_inside(options.cells)
    claim(at, study)
    _make("cells", options.cells)
    _make("results", options.results)
    render.write(at, command.spec, command.original, command.reference)
    started = time.perf_counter()
    cells = Path(options.cells) if options.cells else None
    results = run_study(study, name, at, cells=cells, executor=executor, trust_cells=options.trust_cells)
    page = write_report(results, at)
    if options.results:
        write_kept(results, options.results)
    Console(soft_wrap=True, highlight=False).print(terminal_table(results))
    try:
        said = sample(study, results, Cells(cells or at, options.trust_cells))
    except UserError as error:  # the study is finished all the same
        print(f"\nno sample: {error}")
        said = None
    if said is not None:
        print(f"\nsample of {said[0]}, temperature 0.8:\n  {said[1]}")
    print(f"\n{time.perf_counter() - started:.0f} s\nreport  {page}\ndata    {at / 'results.json'}")


def _refuse_inside(cells: str | None) -> None:
    """Refuses the folder `cells` of a study in place of the study's: all would be trained again in it."""
    if cells and any(KEY.fullmatch(file.stem) for file in Path(cells).glob("*.*.json")):
        raise UserError(f"--cells={cells}: holds cells itself; give the folder that it is in, {Path(cells).parent}")


def _make(flag: str, folder: str | None) -> None:
    """Makes a folder before anything is trained for it."""
    try:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={folder}: cannot be a folder: {error.strerror or error}") from error


def _study(command: Command, options: Options) -> Study:
    spec = command.spec
    if isinstance(spec, Study):
        if options.sweep:
            raise UserError("--sweep: varies a run; a study has its arms, change them with --config")
        if options.seeds is not None:
            raise UserError(f"--seeds: belongs to --sweep; of a study, --config.seeds={options.seeds}")
        return spec
    if not isinstance(spec, Run) or options.sweep is None:
        raise UserError(f"train needs a Run or a Study; {command.reference} gives a {type(spec).__name__}")
    points = from_text(options.sweep)
    seeds = {point["seed"] for point in points.points() if "seed" in point}
    if seeds:
        raise UserError(f"--sweep: seed is how points are repeated; leave it out, and give --seeds={len(seeds)}")
    return Study(
        question=f"How does {Path(split(command.reference)[0]).name} respond to {options.sweep}?",
        arms=arms(spec, points),
        seeds=options.seeds or 1,
        metric="val/bits_per_byte" if _of_text(spec) else "val/loss",
        notes=("A sweep: each point keeps its own learning rate.",),
    )


def _of_text(run: Run) -> bool:
    """Whether bits a byte are measured: of next tokens that stand for text."""
    data = run.data.describe()
    return isinstance(run.objective, NextToken) and (data.text or data.token_bytes is not None)


def _executor(options: Options) -> Executor:
    if options.executor == "in_process":
        if options.ray_address or options.resources:
            raise UserError("--ray_address and --ray_resources need --executor=ray")
        return InProcess()
    amounts = _amounts(options.resources)
    return Ray(
        address=options.ray_address,
        cpus=amounts.pop("cpus", 1.0),
        gpus=amounts.pop("gpus", 0.0),
        resources=amounts,
    )


def _amounts(resources: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in resources:
        name, equals, amount = text.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise UserError(f"--ray_resources={text}: expected NAME=AMOUNT, as cpus=4,gpus=1,TPU=4")
    return found

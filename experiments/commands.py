"""Commands of launch.py on a configuration: generate, evaluate, inspect, compare, report, and what train prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from arch import cost
from arch.decode.beam import Beam, Coverage
from arch.decode.sampling import Greedy, Sample
from arch.decode.strategy import Strategy
from arch.models.base import Causal, Seq2Seq
from arch.spec import UserError
from experiments.config import golden, render
from experiments.config.flags import Command
from experiments.suites.base import score
from train import loop
from train.data.base import Dataset
from train.estimate import estimate, row_flops
from train.evaluate import TEST
from train.objectives.base import Objective
from train.record.reporter import by_split
from train.run import Run
from train.runtime.distributed import is_main
from train.trained import TrainedRun, open_run

SAMPLE_TOKENS = 200


def show_trained(done: loop.Trained, folder: str, seconds: float) -> None:
    """Prints the result of a run in `folder` beside its baselines, how long it took, and a sample."""
    run = done.program.run
    if not is_main():
        return
    print(f"\ntrained {run.steps:,} steps in {seconds:.0f} s")
    _compare(done.metrics, run.objective, done.dataset)
    if run.logging.prompt is not None and jax.process_count() == 1:
        opened = TrainedRun(done.program, done.state, done.dataset, run.steps)
        (text,) = opened.continuations([run.logging.prompt], SAMPLE_TOKENS, Sample(0.8, top_p=0.95), jax.random.key(0))
        print(f"\nsample, temperature 0.8:\n  {text}")
    print(f"\nrun folder   {folder}\nmetrics      {Path(folder) / 'metrics.jsonl'}")
    print(f"TensorBoard  tensorboard --logdir {Path(folder) / 'tensorboard'}")


def generate(
    command: Command,
    folder: str,
    prompts: Sequence[str],
    strategy: Strategy = Sample(0.8),
    *,
    tokens: int = SAMPLE_TOKENS,
    seed: int = 0,
    attention: str | None = None,
    activate: Sequence[str] = (),
) -> None:
    """Continues `prompts` with the newest checkpoint in `folder`; an encoder-decoder translates them. `attention`: SVG
    file for a picture of what was attended to in the first. `activate`: codes that are active throughout,
    SITE:LAYER:CODE each."""
    run = _run(command)
    if not isinstance(run.model, Causal):
        raise UserError(
            f"generate needs a causal model, which goes on token by token; {type(run.model).__name__} is none"
        )
    prompts = list(prompts) or ([run.logging.prompt] if run.logging.prompt else [])
    if not prompts:
        raise UserError("generate needs a --prompt")
    opened = open_run(run, folder)
    if activate:
        from experiments.codes.steering import steered  # reads the data

        strategy = steered(opened, strategy, activate)
    go = opened.translations if isinstance(run.model, Seq2Seq) else opened.continuations
    texts = go(prompts, tokens, strategy, jax.random.key(seed))
    for text in texts:
        print(text)
    if attention is not None:
        from experiments.attention_picture import draw  # plots take a while to import

        draw(opened, prompts[0], texts[0], Path(attention))
        print(f"attention    {attention}")


def sampling(temperature: float, top_k: int | None, top_p: float | None) -> Strategy:
    """A draw from the model, cut; temperature 0 is greedy."""
    return Greedy() if temperature == 0 else Sample(temperature, top_k, top_p)


def beam(width: int, length_penalty: float, coverage: float, prune: float | None) -> Strategy:
    """Beam search."""
    return Beam(width, length_penalty, Coverage(coverage) if coverage else None, prune)


def evaluate(command: Command, folder: str, suite: str | None = None) -> None:
    """The metrics of the newest checkpoint in `folder` on all splits but train, beside the baselines; with `suite`, the
    scores of that suite on its test split."""
    run = _run(command)
    if suite is not None:
        from experiments.suites.catalogue import named

        scores = named(suite, run)
        opened = open_run(run, folder)
        split = TEST if TEST in opened.dataset.rows else "validation"
        found = score(scores, opened, split)
        if is_main():
            print(f"{folder}, step {opened.step:,}, suite {suite} on {split}")
            for name, value in found.items():
                print(f"{name:<28} {value:.4f}")
            for model in (one for each in scores for one in each.baselines(opened.dataset, split)):
                told = " ".join(f"{name} {value:.4f}" for name, value in model.values.items())
                print(f"baseline     {model.name} {told}")
        return
    opened = open_run(run, folder)
    metrics = opened.evaluate()
    if is_main():
        print(f"{folder}, step {opened.step:,}")
        _compare(metrics, run.objective, opened.dataset)


def inspect(command: Command) -> None:
    """The resolved configuration, the parameters of each model in it, FLOPs and memory, without training."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(render.pretty(command.spec, command.original))
    for heading, table in golden.tables(command.spec):
        console.print(f"\n{heading}", style="bold")
        console.print(table, markup=False, end="")
    if isinstance(command.spec, Run):
        console.print(_costs(command.spec), markup=False)


def compare(command: Command, out: str | None = None, metric: str | None = None, *, trust: bool = False) -> None:
    """The run folders that the command names side by side; the report goes into the folder `out`. `trust`: whether
    code is executed that another user's configuration names."""
    from experiments.study.report.compare_table import compare

    compare(command.words, out, metric, trust=trust)


def report(command: Command, out: str | None = None) -> None:
    """The reports of the studies whose folders the command names, from their numbers; into the folder `out`."""
    from experiments.study.report.stored import report

    report(command.words, out)


def _costs(run: Run) -> str:
    """FLOPs and memory of a run as text."""
    counts = cost.parameters(run.model)
    one = estimate(run)
    unit, count = one.counted
    forward = row_flops(run) * run.batch / count
    devices = jax.devices()
    mib = 2.0**20
    return "\n".join([
        "",
        f"parameters   {counts.total:,}: embedding {counts.embedding:,}, body {counts.body:,}, head {counts.head:,}",
        f"FLOPs        {forward:,.0f} a {unit[:-1]} forward, {3 * forward:,.0f} in training; "
        f"{one.flops:.3g} a step, {one.flops * run.steps:.3g} for {run.steps:,} steps",
        f"{unit:<12} {count:,} a step, {count * run.steps:,} in all",
        f"memory       {one.state_bytes / mib:,.1f} MiB state + {one.temporary_bytes / mib:,.1f} MiB at the peak of a "
        f"step, on each of {len(devices)} x {devices[0].device_kind}",
    ])  # fmt: skip


def _compare(metrics: dict[str, float], objective: Objective, dataset: Dataset) -> None:
    """Prints the metrics of each split, and what counting models reach on the validation split."""
    for split, values in by_split(metrics).items():
        print(f"{split:<12} " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
    found = objective.baselines(dataset, "validation") if "validation" in dataset.rows else ()
    if found:
        told = (
            f"{model.name} " + " ".join(f"{name} {value:.4f}" for name, value in model.values.items())
            for model in found
        )
        print("baselines    " + "; ".join(told) + "  of validation")


def _run(command: Command) -> Run:
    if not isinstance(command.spec, Run):
        raise UserError(f"{command.verb} needs a Run; {command.reference} gives a {type(command.spec).__name__}")
    return command.spec

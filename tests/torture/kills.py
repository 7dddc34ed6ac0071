"""Runs, studies and one of two processes, killed at random moments."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from tests.train import children, toys
from tests.train.runtime.test_distributed import free_port
from tests.train.test_loop import lines
from train.record.checkpoint import Checkpoints
from train.run import Logging, Run
from train.runtime.peers import LOST
from train.setup import prepare

STEPS = 60
TOLD = json.dumps({"steps": STEPS})
RUN_KILLS, STUDY_KILLS = 20, 6
Result = tuple[int, int] | str
"""How often it was tried and survived, or why it could not be tried."""


def short_run() -> Run:
    """The run that all of this is done to, as it is where nothing happens to it."""
    return toys.run(steps=STEPS, logging=Logging(log=1, evaluate=3, checkpoint=2))


def run_folder(at: Path) -> subprocess.Popen[str]:
    return children.start("tests.train.child_train", at, TOLD)


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended alike: metrics but for times, and all that the last checkpoint holds."""
    found = []
    for folder in (one, other):
        run = short_run()
        with Checkpoints(folder, keep=2, writes=False) as checkpoints:
            restored = checkpoints.restore(prepare(run, run.data.describe()).abstract)
        if restored is None or restored.step != STEPS:
            return False
        found.append(restored)
    leaves = [jax.tree.leaves(each.state) for each in found]
    return lines(one) == lines(other) and all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


def kills(start: Callable[[], subprocess.Popen[str]], count: int, seconds: float, dice: random.Random) -> None:
    """Starts what is tried, and kills it `count` times at a moment of its life; the last time it comes to its end."""
    for _ in range(count):
        process = start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=dice.uniform(0.3, 1.1) * seconds)
        process.kill()
        process.communicate()
    done = children.finish(start())
    assert done.returncode == 0, done.stderr[-2000:]


def killed_runs(folder: Path, whole: Path, dice: random.Random) -> Result:
    began = time.monotonic()
    assert children.finish(run_folder(folder / "timed")).returncode == 0
    kills(lambda: run_folder(folder / "run"), RUN_KILLS, time.monotonic() - began, dice)
    return RUN_KILLS, RUN_KILLS * same(folder / "run", whole)


def study(folder: str) -> None:
    from experiments.study.engine import run_study
    from tests.experiments.study import toy

    run_study(toy.study(), "toy", Path(folder))


def killed_studies(folder: Path, whole: Path, dice: random.Random) -> Result:
    from experiments.study.results import Results

    def start(name: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tests.torture", "study", str(folder / name)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, cwd=children.ROOT, text=True, **pipes)

    def numbers(name: str) -> str:
        results = Results.from_json((folder / name / "results.json").read_text())
        cells = [dataclasses.replace(cell, seconds=0.0) for cell in results.cells]
        return dataclasses.replace(results, cells=cells, provenance={}).to_json()

    began = time.monotonic()
    first = children.finish(start("left alone"))
    assert first.returncode == 0, first.stderr[-2000:]
    kills(lambda: start("killed"), STUDY_KILLS, time.monotonic() - began, dice)
    return STUDY_KILLS, STUDY_KILLS * (numbers("killed") == numbers("left alone"))


def one_of_two(folder: Path) -> Result:
    """Process 0, then 1, of two that train together is killed: the other ends, and both go on when started again."""
    told = json.dumps({"mesh": {"data": 2}, "steps": 400})
    good = 0
    for who in (0, 1):
        at = folder / str(who)

        def start(at: Path = at) -> list[subprocess.Popen[str]]:
            meet = f"127.0.0.1:{free_port()}"
            return [children.start("tests.train.child_process", at, meet, 2, index, told) for index in (0, 1)]

        pair = start()
        while not (at / "metrics.jsonl").exists():
            assert pair[0].poll() is None
            time.sleep(0.05)
        pair[who].kill()
        began = time.monotonic()
        other = children.finish(pair[1 - who], 120)
        pair[who].communicate()
        soon = time.monotonic() - began < 10 and other.returncode == LOST
        ends = [children.finish(process) for process in start()]
        good += soon and [end.returncode for end in ends] == [0, 0]
    return 2, good

"""What a run and a study survive: killed at random moments, flipped bytes, files cut short, full and locked disks.

python -m tests.torture [SEED [WORD]]      Prints a table of what was tried and what survived; takes ten minutes.
                                          WORD: only what has it in its name.
python -m tests.torture study FOLDER      The study that is killed.

Survived means that what comes out is, to the last bit, what an undisturbed run gives, or that what was refused was
refused in one line and the same command went on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from arch.spec import UserError
from tests.train import children, toys
from tests.train.child_checkpoint import state
from tests.train.runtime.test_distributed import free_port
from tests.train.test_loop import lines
from train.loop import train
from train.record.checkpoint import Checkpoints
from train.record.metrics import Metrics, read
from train.run import Logging
from train.runtime.peers import LOST
from train.setup import prepare

STEPS = 60
TOLD = json.dumps({"steps": STEPS})
RUN_KILLS, STUDY_KILLS, FLIPS, CUTS = 20, 6, 70, 20
Result = tuple[int, int] | str
"""How often it was tried and survived, or why it could not be tried."""


def run_folder(at: Path) -> subprocess.Popen[str]:
    return children.start("tests.train.child_train", at, TOLD)


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended alike: metrics but for times, and all that the last checkpoint holds."""
    found = []
    for folder in (one, other):
        run = toys.run(steps=STEPS, logging=Logging(log=1, evaluate=3, checkpoint=2))
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


def damaged(folder: Path, count: int, spoil: Callable[[bytes, random.Random], bytes], dice: random.Random) -> Result:
    """One file of the newest of three checkpoints at a time: what is restored is that of its step, or an older one."""

    def big(step: int) -> dict:
        return state(step) | {"params": {"w": jax.random.normal(jax.random.key(step), (128, 128))}}

    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, big(step), {"next_batch": step})
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), big(0))
    newest, good = folder / "checkpoints" / "3", 0
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.stat().st_size]
    for _ in range(count):
        path = dice.choice(files)
        content = path.read_bytes()
        path.write_bytes(spoil(content, dice))
        notes: list[str] = []
        with Checkpoints(folder, keep=3, note=notes.append) as checkpoints:
            found = checkpoints.restore(abstract)
        assert found is not None
        kept = jax.tree.all(jax.tree.map(np.array_equal, found.state, big(found.step)))
        told = len(notes) == (found.step != 3) and not any("\n" in note for note in notes)
        good += bool(kept and told and found.data == {"next_batch": found.step})
        if (folder / "damaged" / "3").exists():
            (folder / "damaged" / "3").rename(newest)
        path.write_bytes(content)
    return count, good


def flipped(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    changed[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def spoilt_metrics(folder: Path, dice: random.Random) -> Result:
    """A byte changed or the end cut off: told in one line, and everything else is read."""
    with Metrics(folder, tensorboard=False) as metrics:
        for step in range(1, 51):
            metrics.write(step, {"train/loss": 1 / step})
    path, good = folder / "metrics.jsonl", 0
    whole = path.read_bytes()
    for number in range(20):
        path.write_bytes((flipped if number % 2 else cut)(whole, dice))
        notes: list[str] = []
        with Metrics(folder, resume=50, mark=metrics.mark, tensorboard=False, note=notes.append):
            good += len(notes) == 1 and len(read(folder, lambda line: None)) <= 50
    return 20, good


@contextlib.contextmanager
def mounted(at: Path, size: str) -> Iterator[None]:
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def refused(process: subprocess.Popen[str], line: str) -> bool:
    done = children.finish(process)
    return done.returncode != 0 and line in done.stderr.splitlines()[-1]


def full_disk(folder: Path, whole: Path, dice: random.Random) -> Result:
    at, good = folder / "disk", 0
    try:
        for size in ("300k", "800k", "1300k"):  # for no checkpoint, one, and two
            with mounted(at, size):
                told = refused(run_folder(at / "run"), "o space left")
                subprocess.run(["mount", "-o", "remount,size=200m", at], check=True)
                done = children.finish(run_folder(at / "run"))
                good += told and done.returncode == 0 and same(at / "run", whole)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"skipped: mounting is not permitted ({error})"
    return 3, good


def locked_folder(folder: Path, whole: Path, dice: random.Random) -> Result:
    """The checkpoints become read-only in the middle of the run."""
    at = folder / "run"
    process = run_folder(at)
    while not list((at / "checkpoints").glob("[0-9]*[0-9]")):
        assert process.poll() is None
        time.sleep(0.02)
    locked = subprocess.run(["chattr", "+i", at / "checkpoints"], capture_output=True, text=True, check=False)
    if locked.returncode:
        process.kill()
        process.communicate()
        return f"skipped: no folder can be locked here ({locked.stderr.strip()})"
    try:
        told = refused(process, "cannot write a checkpoint: ")
    finally:
        subprocess.run(["chattr", "-i", at / "checkpoints"], check=True)
    done = children.finish(run_folder(at))
    return 1, int(told and done.returncode == 0 and same(at, whole))


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


def torture(folder: Path, seed: int, only: str = "") -> dict[str, Result]:
    """What was tried, of that with `only` in its name -> how often, and how often it survived."""
    dice, whole = random.Random(seed), folder / "whole"
    train(toys.run(steps=STEPS, logging=Logging(log=1, evaluate=3, checkpoint=2)), whole)
    tried: dict[str, Callable[[Path], Result]] = {
        "run killed at a random moment": lambda at: killed_runs(at, whole, dice),
        "study killed at a random moment": lambda at: killed_studies(at, whole, dice),
        "byte of a checkpoint flipped": lambda at: damaged(at, FLIPS, flipped, dice),
        "file of a checkpoint cut short": lambda at: damaged(at, CUTS, cut, dice),
        "metrics changed or cut short": lambda at: spoilt_metrics(at, dice),
        "disk full": lambda at: full_disk(at, whole, dice),
        "folder read-only in the middle": lambda at: locked_folder(at, whole, dice),
        "one of two processes killed": one_of_two,
    }
    found: dict[str, Result] = {}
    for number, (what, attempt) in enumerate(tried.items()):
        if only not in what:
            continue
        at = folder / str(number)
        at.mkdir()
        began = time.monotonic()
        try:
            found[what] = attempt(at)
        except (AssertionError, UserError) as error:
            found[what] = f"failed: {' '.join(str(error).split())[:300]}"
        print(row(what, found[what]), f"  {time.monotonic() - began:.0f} s", flush=True)
    return found


def row(what: str, result: Result) -> str:
    tried, survived = (result, "") if isinstance(result, str) else map(str, result)
    return f"| {what:34} | {tried:>5} | {survived:>8} |"


@pytest.mark.slow
def test_everything_survives(tmp_path):
    for what, result in torture(tmp_path, random.SystemRandom().randrange(2**32)).items():
        assert (isinstance(result, str) and result.startswith("skipped")) or result[0] == result[1], what


def main(*words: str) -> None:
    if words[:1] == ("study",):
        study(words[1])
        return
    seed = int(words[0]) if words else random.SystemRandom().randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="torture"))
    print(f"seed {seed}\n| {'tried':34} | times | survived |", flush=True)
    try:
        found = torture(folder, seed, *words[1:2])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bad = [what for what, result in found.items() if isinstance(result, tuple) and result[0] != result[1]]
    sys.exit(1 if bad or any(str(result).startswith("failed") for result in found.values()) else 0)


if __name__ == "__main__":
    assert signal.SIGKILL
    assert os.name == "posix"
    import tests.conftest  # the strict options, and the compiled programs of the tests

    assert tests.conftest.OPTIONS
    main(*sys.argv[1:])

"""Disks that are full, and folders that can no longer be written."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture.kills import Result, run_folder, same
from tests.train import children


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

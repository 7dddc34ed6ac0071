"""All that a run and a study are put through, one after the other."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from arch.spec import UserError
from tests.torture.damage import CUTS, FLIPS, cut, damaged, flipped, spoilt_metrics
from tests.torture.disks import full_disk, locked_folder
from tests.torture.kills import Result, killed_runs, killed_studies, one_of_two, short_run
from train.loop import train


def torture(folder: Path, seed: int, only: str = "") -> dict[str, Result]:
    """What was tried, of that with `only` in its name -> how often, and how often it survived."""
    dice, whole = random.Random(seed), folder / "whole"
    train(short_run(), whole)
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

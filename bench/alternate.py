"""Contestants timed in turn, each in a process of its own, so that no one's thread pool or allocator is another's."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 20


def alternate(
    contestants: Mapping[str, tuple[str, str, Any]], rounds: int, warm_up: int = WARM_UP, at_once: bool = False
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of `rounds`.

    Args:
      contestants: name -> (module, function, argument): `function(argument)`, called in a process of its own, returns
        the thing to be timed, a function of no arguments that does the work to its end.
      rounds: how many times all are run, one after the other.
      warm_up: how many times each is run before, alone.
      at_once: whether they are made and warmed up side by side, sooner where there are many cores to compile on; each
        is then run once alone before the first round.

    One that cannot be made is left out, and named below its error.
    """
    workers = {}
    for name, what in contestants.items():
        workers[name] = _start(*what, warm_up)
        if not at_once and not _ready(name, workers[name]):
            del workers[name]
    if at_once:
        workers = {name: worker for name, worker in workers.items() if _ready(name, worker)}
        for name, worker in workers.items():
            _ask(name, worker)
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds[name].append(_ask(name, worker))
    for worker in workers.values():
        worker.communicate()  # nothing more to do, which ends it
    return seconds


def together(
    contestants: Mapping[str, tuple[str, str, Any]], rounds: int, warm_up: int = WARM_UP
) -> dict[str, list[float]]:
    """The same in this process, which is quicker to start: for trying whether contestants run, not for timing them."""
    runs = {name: _made(*what, warm_up) for name, what in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(_timed(run))
    return seconds


def table(seconds: Mapping[str, Sequence[float]], reference: str) -> str:
    """Medians in ms, the fastest round, and how many times as fast as each contestant `reference` is, if it ran."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [f"{'':24s} {'median ms':>10s} {'least ms':>10s} {'ours is':>8s}"]
    for name, values in seconds.items():
        compared = reference in median and name != reference
        ratio = f"{median[name] / median[reference]:7.2f}x" if compared else ""
        lines.append(f"{name:24s} {median[name] * 1e3:10.1f} {min(values) * 1e3:10.1f} {ratio:>8s}")
    return "\n".join(lines)


def quartiles(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Of `one` over `other`, round by round: lower quartile, median, upper quartile."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return low, median, high


def _start(module: str, function: str, argument: Any, warm_up: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.alternate", module, function, json.dumps(argument), str(warm_up)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(name: str, worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return float(_answer(name, worker))


def _ready(name: str, worker: subprocess.Popen[str]) -> bool:
    try:
        _answer(name, worker)
    except SystemExit as ended:
        worker.communicate()
        print(f"{ended}; it is left out", flush=True)
        return False
    return True


def _answer(name: str, worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("ANSWER "):
            return line.split()[1]
    sys.exit(f"{name} ended before it answered; its error is above")


def _made(module: str, function: str, argument: Any, warm_up: int) -> Callable[[], Any]:
    run = getattr(importlib.import_module(module), function)(argument)
    for _ in range(warm_up):
        run()
    return run


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _serve(module: str, function: str, argument: Any, warm_up: int) -> None:
    run = _made(module, function, argument, warm_up)
    print("ANSWER ready", flush=True)
    for _ in sys.stdin:
        print("ANSWER", _timed(run), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))

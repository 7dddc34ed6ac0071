"""Contestants timed in turn, each in a process of its own, so that no one's thread pool or allocator is another's."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 20


def alternate(contestants: Mapping[str, tuple[str, str, Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each of `rounds`.

    Args:
      contestants: name -> (module, function, argument): `function(argument)`, called in a process of its own, returns
        the thing to be timed, a function of no arguments that does the work to its end.
      rounds: how many times all are run, one after the other.
    """
    workers = {name: _start(*what) for name, what in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds[name].append(_ask(name, worker))
    for worker in workers.values():
        worker.stdin.close()  # type: ignore[union-attr]
        worker.wait()
    return seconds


def table(seconds: Mapping[str, Sequence[float]], reference: str) -> str:
    """Medians in ms, the fastest round, and how many times as fast as each contestant `reference` is."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [f"{'':24s} {'median ms':>10s} {'least ms':>10s} {'ours is':>8s}"]
    for name, values in seconds.items():
        ratio = "" if name == reference else f"{median[name] / median[reference]:7.2f}x"
        lines.append(f"{name:24s} {median[name] * 1e3:10.1f} {min(values) * 1e3:10.1f} {ratio:>8s}")
    return "\n".join(lines)


def _start(module: str, function: str, argument: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.alternate", module, function, json.dumps(argument)]
    worker = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _answer(function, worker)  # made and warmed up before the next one starts
    return worker


def _ask(name: str, worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return float(_answer(name, worker))


def _answer(name: str, worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("ANSWER "):
            return line.split()[1]
    sys.exit(f"{name} ended before it answered; its error is above")


def _serve(module: str, function: str, argument: Any) -> None:
    run = getattr(importlib.import_module(module), function)(argument)
    for _ in range(WARM_UP):
        run()
    print("ANSWER ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print("ANSWER", time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))

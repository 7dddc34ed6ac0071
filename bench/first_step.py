"""Time to the first step: imports, preparation and start of the parameters, compilation, and the step itself.

    python -m bench.first_step [--depths=6,48] [--repeats=3]

Each line is the median of fresh processes, first with an empty compilation cache, then with the one that this left
behind. The stack is scanned, so compilation must not grow with depth; the last lines say by how much it did.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from bench.alternate import ROOT

DEPTHS = flags.DEFINE_list("depths", ["6", "48"], "Layers.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Processes for each line.")
LOOP = flags.DEFINE_enum("loop", "scan", ["scan", "unroll"], "The stack.")

PHASES = ("import", "prepare", "start", "compile", "step")


def measure(depth: int, loop: str) -> dict[str, float]:
    """Seconds of each phase, in this process, which must be a fresh one."""
    times = [time.perf_counter()]

    import jax
    import numpy as np

    from arch.blocks import PreNorm
    from arch.layers.attention.softmax import Attention
    from arch.models.decoder import Decoder
    from arch.stacks import Sequential
    from train.data.text import Text
    from train.run import Run
    from train.runtime.compilation import enable_compilation_cache
    from train.setup import prepare

    enable_compilation_cache()
    times.append(time.perf_counter())
    model = Decoder(vocab=256, width=128, depth=depth, block=PreNorm(Attention(heads=4)), stack=Sequential(loop))  # type: ignore[arg-type]
    run = Run(model=model, data=Text(length=64), batch=4)
    program = prepare(run, run.data.describe())
    tokens = np.zeros((4, 65), np.int32)
    batch = program.place({"tokens": tokens, "segments": np.ones_like(tokens), "positions": tokens})
    times.append(time.perf_counter())
    state = jax.block_until_ready(program.start())
    times.append(time.perf_counter())
    step: Any = program.train_step
    compiled = step.lower(state, batch, jax.device_put(True)).compile()
    times.append(time.perf_counter())
    jax.block_until_ready(compiled(state, batch, jax.device_put(True)))
    times.append(time.perf_counter())
    return {phase: after - before for phase, before, after in zip(PHASES, times, times[1:], strict=False)}


def fresh(depth: int, loop: str, cache: str) -> dict[str, float]:
    """`measure` in a new process that keeps compiled programs in `cache`."""
    code = f"import json; from bench.first_step import measure; print('ANSWER', json.dumps(measure({depth}, {loop!r})))"
    environment = {**os.environ, "STRATA_CACHE": cache}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    if not answers:
        sys.exit(done.stderr)
    return json.loads(answers[0].removeprefix("ANSWER"))


def main(argv: list[str]) -> None:
    print(f"{'layers':>6s} {'cache':>6s} " + "".join(f"{phase:>9s}" for phase in (*PHASES, "all")) + "   seconds")
    medians: dict[tuple[int, str], dict[str, float]] = {}
    for depth in map(int, DEPTHS.value):
        runs: dict[str, list[dict[str, float]]] = {"empty": [], "filled": []}
        for _ in range(REPEATS.value):
            with tempfile.TemporaryDirectory() as cache:
                for name in runs:
                    runs[name].append(fresh(depth, LOOP.value, cache))
        for name, found in runs.items():
            median = {phase: statistics.median(one[phase] for one in found) for phase in PHASES}
            medians[depth, name] = median
            cells = "".join(f"{seconds:9.2f}" for seconds in (*median.values(), sum(median.values())))
            print(f"{depth:6d} {name:>6s} {cells}", flush=True)
    least, most = min(map(int, DEPTHS.value)), max(map(int, DEPTHS.value))
    for name in ("empty", "filled"):
        ratio = medians[most, name]["compile"] / medians[least, name]["compile"]
        print(f"compile at {most} layers / at {least}, cache {name}: {ratio:.2f}x")


if __name__ == "__main__":
    app.run(main)

"""Everything that one GPU has to show, in ten to fifteen minutes: `python -m bench.gpu`.

Training steps of 125M and 350M decoders beside torch.compile with cuDNN's attention, where their time goes, forms of
attention, ensembles. Each part is a bench of its own, in a process of its own with a time limit, so that one that
fails or hangs costs its own numbers alone. `--toy` runs the same parts on the CPU at toy sizes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from absl import app, flags

from bench.alternate import ROOT

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # imported, it has its own
TOY = flags.DEFINE_bool("toy", False, "On the CPU, at toy sizes.", flag_values=FLAGS)
PARTS = flags.DEFINE_list("parts", [], "Some of them, by name; empty: all.", flag_values=FLAGS)

STEP = "--precisions=bfloat16 --rounds=11 --warm_up=5"
# Name -> (module and flags, seconds that it may take), and the same at toy size.
REAL: dict[str, tuple[str, int]] = {
    "steps 125M": (f"train_step --device=gpu --sizes=125M --lengths=1024,2048 {STEP}", 240),
    "kernels": ("kernels --device=gpu --sizes=125M --lengths=1024 --precisions=bfloat16 --top=20", 120),
    "steps 350M": (f"train_step --device=gpu --sizes=350M --lengths=1024,2048 {STEP}", 360),
    "attention": ("attention --device=gpu --rounds=11", 120),
    "ensembles": ("ensemble --device=gpu --sizes=5M --replicas=12,48 --precisions=bfloat16 --rounds=5", 180),
}
SMALL: dict[str, tuple[str, int]] = {
    "steps 125M": ("train_step --sizes=toy --lengths=16 --precisions=bfloat16 --rounds=1", 600),
    "kernels": ("kernels --sizes=toy --lengths=16 --precisions=bfloat16 --top=5", 600),
    "attention": ("attention --lengths=32 --tokens=64 --heads=2 --rounds=1", 600),
    "ensembles": ("ensemble --sizes=toy --replicas=2 --rounds=1", 600),
}


def ended(command: list[str], limit: int) -> int | None:
    """The exit status of a module; None: it was stopped after `limit` seconds, with all that it had started."""
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, start_new_session=True)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def main(argv: list[str]) -> None:
    parts = SMALL if TOY.value else REAL
    unknown = set(PARTS.value) - set(parts)
    if unknown:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    failed = []
    for name, (command, limit) in parts.items():
        if PARTS.value and name not in PARTS.value:
            continue
        print(f"\n# {name}: python -m bench.{command}", flush=True)
        start = time.perf_counter()
        code = ended(["bench." + command.split()[0], *command.split()[1:]], limit)
        if code != 0:
            failed.append(name)
        how = "stopped at its limit" if code is None else f"exit {code}"
        print(f"# {name}: {how} after {time.perf_counter() - start:.0f} s", flush=True)
    if failed:
        sys.exit(f"without a result: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)

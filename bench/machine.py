"""What the benches run on: the CPU and its wide instructions, or one GPU."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

CPUS = Path("/proc/cpuinfo")


def cores() -> int:
    """Those that this process may use, where the system says so; else all."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name and, on Linux, which of the wide instructions it has."""
    if not CPUS.exists():
        return platform.processor() or platform.machine()
    lines = CPUS.read_text().splitlines()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wide = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    have = [name for name in wide if name in found.get("flags", "").split()]
    return f"{found.get('model name', 'unknown CPU')} ({', '.join(have)})"


def choose(device: str) -> bool:
    """Makes the processes that a bench starts run on "cpu" or "gpu"; whether it is the GPU."""
    on_gpu = device == "gpu"
    os.environ["JAX_PLATFORMS"] = "cuda" if on_gpu else "cpu"
    if on_gpu:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several processes share the memory
    return on_gpu


def gpu_peak(precision: str) -> float | None:
    """FLOP/s of this machine's GPU, as its maker states them; None of one that is not in the table."""
    from train.runtime.hardware import PEAKS

    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    name = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    known = PEAKS.get(name)
    return getattr(known, precision) if known else None

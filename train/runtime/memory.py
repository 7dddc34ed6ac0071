"""Is there memory for a run? Known by what XLA plans for its step, before anything is allocated.

The step is compiled for shapes, which its first call then finds compiled.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import jax

from arch.spec import UserError
from train.setup import CompiledRun

ADVICE = "take fewer rows (batch), more micro-batches (accumulate), a smaller model, or more devices"


def demand(program: CompiledRun) -> int | None:
    """Bytes that a step takes on one device at its peak, state and batch included; None where it is not known."""
    run, ensemble = program.run, program.ensemble
    step: Any = getattr(program.train_step, "func", program.train_step)
    if jax.process_count() > 1 or not hasattr(step, "lower") or run.objective.frozen:
        return None
    stack = () if ensemble is None else (len(ensemble),)
    shapes = run.data.describe().batch(run.batch).items()
    batch = {name: jax.ShapeDtypeStruct((*stack, *shape), dtype) for name, (shape, dtype) in shapes}
    memory = step.lower(*getattr(program.train_step, "args", ()), program.abstract, batch, program.go()).compile()
    told = memory.memory_analysis()
    if told is None:
        return None
    new = told.output_size_in_bytes - told.alias_size_in_bytes
    return int(told.argument_size_in_bytes + told.temp_size_in_bytes + max(0, new))


def supply(device: jax.Device) -> int | None:
    """Bytes of memory that one device has for a run; None if it is not known. CPU devices share that of the process."""
    if device.platform == "cpu":
        return process_memory() // jax.local_device_count("cpu")
    return (device.memory_stats() or {}).get("bytes_limit")


def process_memory() -> int:
    """Bytes that this process may have: of the machine, of its control group, and of its address space."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY:
        limits.append(space)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # no control groups, or "max"
            continue
    return min(limits)


def check(program: CompiledRun) -> None:
    """Raises UserError, in one line, for a run that the memory of a device cannot hold."""
    there = supply(program.mesh.devices.flat[0])
    needed = None if there is None else demand(program)
    if there is not None and needed is not None and needed > there:
        device = program.mesh.devices.flat[0].platform
        raise UserError(f"out of memory: a step takes {needed / 2**20:,.0f} MiB on each {device} device, which has "
                        f"{there / 2**20:,.0f} MiB; {ADVICE}")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on the host or on a device."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
    return isinstance(error, MemoryError)


def line(error: BaseException) -> str:
    """One line for such an error."""
    return f"out of memory ({' '.join(str(error).split())[:120] or type(error).__name__}); {ADVICE}"

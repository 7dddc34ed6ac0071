"""Which process is which: on what host, and whether one of that number is still the one that was meant."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def host() -> str:
    """The name of this host."""
    return platform.node()


def place() -> str:
    """Names the processes among which a process id is unique: those of one boot of one host and one container."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), "/proc/self/ns/pid"
    started = boot.read_text().strip() if boot.exists() else ""
    return f"{host()} {started} {os.readlink(space) if os.path.exists(space) else ''}".strip()


def born(pid: int) -> str:
    """When a process was started, as the system tells it, which tells it from a later one of the same id; "" if there
    is none, or nothing of it but its exit status."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            state, *fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if state in "ZX" else fields[18]
    try:
        shown = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    state, _, started = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()

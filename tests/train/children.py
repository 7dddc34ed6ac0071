"""Processes that tests start: with devices of their own, to be killed, or several at once."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
"""tensorboardX imports torch where there is one, which takes seconds."""


def start(module: str, *words: object, devices: int = 1, **environment: str) -> subprocess.Popen[str]:
    """`python -m module words...` with `devices` simulated devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    code = WITHOUT_TORCH + f"runpy.run_module({module!r}, run_name='__main__', alter_sys=False)"
    return subprocess.Popen(
        [sys.executable, "-c", code, module, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str], timeout: float = 500) -> subprocess.CompletedProcess[str]:
    """Waits for the child; it is killed if it takes longer."""
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        raise
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def run(module: str, *words: object, devices: int = 1, **environment: str) -> subprocess.CompletedProcess[str]:
    """`start` and `finish`; the child must exit with status 0."""
    done = finish(start(module, *words, devices=devices, **environment))
    assert done.returncode == 0, done.stderr[-4000:]
    return done

"""What the process is told about memory and cores, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_is_freed_is_kept():
    """A block that is freed and taken again costs no page faults the second time."""
    code = """
import resource, numpy as np
from train.runtime.host import keep_freed_memory
kept = keep_freed_memory()
faults = []
for _ in range(2):
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = np.empty(200 * 2**20, np.uint8)
    block[:] = 1
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
    del block
print(kept, faults[0], faults[1])
"""
    kept, first, second = run(code).split()
    if kept == "False":
        pytest.skip("malloc is not glibc's")
    assert int(first) > 50
    assert int(second) < 10


@pytest.mark.skipif(not MODES.exists() or "[never]" in MODES.read_text(), reason="the kernel has no huge pages to give")
def test_the_heap_asks_for_huge_pages():
    """As the kernel tells of the heap: `hg` among its flags."""
    code = """
import re
from train.runtime.host import keep_freed_memory
keep_freed_memory()
maps = open("/proc/self/smaps").read()
print(any(" hg" in flags for flags in re.findall(r"\\[heap\\](?:.*\\n)+?VmFlags:(.*)", maps)))
"""
    assert run(code) == "True"


def test_cores_as_devices():
    code = "from train.runtime.host import divide_cores; divide_cores(3); import jax; print(jax.device_count())"
    assert run(code) == "3"


def test_no_huge_pages_under_a_limit_of_the_address_space():
    """The request for a quarter of the memory is left out: under the limit it would leave no room for the run."""
    code = """
import resource
from train.runtime import host
asked = []
host.ask_for_huge_pages = lambda: asked.append(1)
kept = host.keep_freed_memory()
resource.setrlimit(resource.RLIMIT_AS, (2**36, resource.RLIM_INFINITY))
host.keep_freed_memory()
print(kept, len(asked))
"""
    kept, asked = run(code).split()
    assert int(asked) == (kept == "True")

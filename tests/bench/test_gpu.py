"""The script for one GPU: its parts have the flags they are given, and one that hangs or fails costs itself alone."""

import importlib
import subprocess
import time

import pytest

from bench import gpu, train_step
from bench.alternate import alternate, table
from bench.machine import cores, processor

COMMANDS = {f"{name}, {kind}": command for kind, parts in (("real", gpu.REAL), ("toy", gpu.SMALL))
            for name, (command, _) in parts.items()}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_parts_have_their_flags(command):
    module, *given = command.split()
    values = importlib.import_module(f"bench.{module}").FLAGS
    values(["bench", *given])
    values.unparse_flags()


def test_a_part_ends_by_itself_or_at_its_limit():
    assert gpu.ended(["bench.machine"], 60) == 0
    assert gpu.ended(["bench.nothing_of_this_name"], 60) == 1
    start = time.perf_counter()
    assert gpu.ended(["http.server", "0", "--bind", "127.0.0.1"], 1) is None
    assert time.perf_counter() - start < 30


def test_a_contestant_that_cannot_be_made_is_left_out(capfd):
    runs = {"ours": ("bench.machine", "nothing", {}), "other": ("bench.machine", "choose", "cpu")}
    seconds = alternate({**runs, "sleeper": ("tests.bench.test_gpu", "sleeper", 0.001)}, 2, 1, at_once=True)
    assert set(seconds) == {"sleeper"}
    out, err = capfd.readouterr()
    assert "ours ended before it answered; its error is above; it is left out" in out
    assert "has no attribute 'nothing'" in err
    assert table(seconds, "ours").splitlines()[1].split()[0] == "sleeper"  # without a ratio, and nothing is lost
    assert "x" not in table(seconds, "ours").splitlines()[1]


def sleeper(argument):
    return lambda: time.sleep(argument)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("--only=theirs", "--only=theirs: no such contestant; there are ours; ours, one device"),
        ("--lengths=48", "--lengths=48: must divide the 64 tokens of a step of toy"),
    ],
)
def test_bad_flags_are_one_line(given, line):
    command = [gpu.sys.executable, "-m", "bench.train_step", "--sizes=toy", "--lengths=16", given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=gpu.ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_the_machine_is_named():
    assert cores() >= 1
    assert processor()
    assert train_step.contestants("gpu", "125M", 1024, "bfloat16").keys() == {
        "ours", "ours, scanned", "torch compile, fused"
    }  # fmt: skip

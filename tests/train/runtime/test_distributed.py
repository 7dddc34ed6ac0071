"""Two processes on CPU train as one does with the same global batch."""

import json
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from arch.spec import UserError
from tests.train import children
from tests.train.families import FAMILIES
from tests.train.test_loop import lines
from train.runtime import distributed
from train.runtime import peers as watching
from train.runtime.peers import LOST, is_loopback

MODULE = "tests.train.child_process"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(folder, status: int, **told) -> list[str]:
    """What both processes print, one device in each; without what Gloo says from C++."""
    coordinator = f"127.0.0.1:{free_port()}"
    pair = [children.start(MODULE, folder, coordinator, 2, index, json.dumps(told)) for index in (0, 1)]
    try:
        ends = [children.finish(process) for process in pair]
    finally:
        for process in pair:
            process.kill()
    for end in ends:
        assert end.returncode == status, end.stderr[-4000:]
    return ["\n".join(line for line in end.stdout.splitlines() if not line.startswith("[Gloo]")) for end in ends]


def two_are_one(folder, rel):
    """Parameters of both processes to 1e-6 absolute, and all lines of metrics to `rel`."""
    one, two, other = (np.load(folder / name) for name in ("one.0.npy", "two.0.npy", "two.1.npy"))
    np.testing.assert_array_equal(two, other)
    np.testing.assert_allclose(two, one, atol=1e-6)
    ours, theirs = lines(folder / "two"), lines(folder / "one")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [1, 2, 3, 3, 4, 4]
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=rel)


def test_two_processes_equal_one(tmp_path):
    """fsdp over both, preempted on the way: losses to 1e-6 relative, parameters to 1e-6 absolute.

    Only the second process is sent SIGTERM; both must stop after the same step, which both save and both restore.
    """
    told = {"mesh": {"fsdp": 2}}
    children.run(MODULE, tmp_path / "one", "", 1, 0, json.dumps(told), devices=2)
    first, second = together(tmp_path / "two", 143, signal=[1, "SIGTERM", 0], **told)
    assert "SIGTERM: stopped after step" in first
    assert second == "", "only process 0 prints"
    stopped = [int(path.name) for path in (tmp_path / "two" / "checkpoints").iterdir()]
    assert stopped
    assert max(stopped) < 4
    first, second = together(tmp_path / "two", 0, **told)
    assert f"going on from step {max(stopped)} of 4" in first
    assert second == ""
    two_are_one(tmp_path, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{"fsdp": 2}, {"data": 2}], ids=["fsdp", "data"])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one_for_every_family(family, mesh, tmp_path):
    """Stopped on the way and gone on: what is hidden of a row, and how many targets it has, is of the row alone."""
    told = {"mesh": mesh, "family": family}
    children.run(MODULE, tmp_path / "one", "", 1, 0, json.dumps(told), devices=2)
    together(tmp_path / "two", 143, signal=[1, "SIGTERM", 1], **told)
    first, second = together(tmp_path / "two", 0, **told)
    assert "going on from step" in first
    assert second == ""
    two_are_one(tmp_path, 3e-6)


PEER = """
import sys, threading, time
from train.runtime.peers import Peers
class Store:
    def key_value_set(self, key, value): print(value, flush=True)
    def blocking_key_value_get(self, key, timeout): return sys.argv[3]
peers = Peers(Store(), "127.0.0.1", int(sys.argv[1]), 3)
print("ready", flush=True)
end = sys.stdin.readline()
if end == "error\\n":
    raise RuntimeError("of its own")
"""


def ended(processes) -> None:
    for one in processes:
        one.kill()
        with one:  # closes its pipes
            pass


def peer(index: int, store: str = "") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PEER, str(index), "3", store]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=children.ROOT, text=True, **pipes)


@pytest.mark.parametrize("who", [0, 2])
@pytest.mark.parametrize("how", ["killed", pytest.param("silent", marks=pytest.mark.slow), "error", "end"])
def test_a_process_that_is_lost_ends_the_others(who, how):
    """Within seconds, with one line and a code to restart on; one that has come to its end is not lost."""
    first = peer(0)
    store = first.stdout.readline().strip()
    peers = [first, *(peer(index, store) for index in (1, 2))]
    try:
        assert [one.stdout.readline() for one in peers] == ["ready\n"] * 3
        others = [one for one in peers if one is not peers[who]]
        if how == "end":
            for one in (peers[who], *others):
                assert one.communicate("end\n", timeout=20)[1] == ""
                assert one.returncode == 0
            return
        start = time.monotonic()
        if how == "error":
            peers[who].stdin.write("error\n")
            peers[who].stdin.flush()
        else:
            peers[who].send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        for one in others:
            assert one.wait(timeout=20) == LOST
            line = one.stderr.read()
            assert "is lost: killed, or its machine is gone; run the same command again in all processes" in line
            assert len(line.splitlines()) == 1
        assert time.monotonic() - start < 10 + (how == "silent") * 3
    finally:
        ended(peers)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("192.0.2.7", False),
        ("no such host", False),
    ],
)
def test_what_is_of_this_machine_alone(host, alone):
    assert is_loopback(host) is alone


@pytest.mark.parametrize(("coordinator", "bound"), [("127.0.0.1:4321", "127.0.0.1:4321"), ("192.0.2.7:4321", None)])
def test_a_coordinator_of_this_machine_is_heard_here_alone(monkeypatch, coordinator, bound):
    told = {}
    monkeypatch.setattr("jax.distributed.initialize", lambda *words, **more: told.update(more))
    distributed.initialize(coordinator, 2, 0)
    assert told == {"coordinator_bind_address": bound}


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_one_of_two_that_train_is_killed(tmp_path, who):
    """The run goes on from the checkpoint when both are started again, and ends as one that was left alone."""
    coordinator, told = f"127.0.0.1:{free_port()}", json.dumps({"mesh": {"data": 2}, "steps": 4000})
    pair = [children.start(MODULE, tmp_path / "run", coordinator, 2, index, told) for index in (0, 1)]
    try:
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert pair[0].poll() is None
            time.sleep(0.2)
        pair[who].send_signal(signal.SIGKILL)
        start = time.monotonic()
        end = children.finish(pair[1 - who], timeout=60)
        assert time.monotonic() - start < 10
        assert end.returncode == LOST
        assert f"process {who} of 2 is lost" in end.stderr.splitlines()[-1]
        assert "Traceback" not in end.stderr
    finally:
        ended(pair)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((None, 2, 0), "need the coordinator's address"),
        (("localhost:1", None, 0), "needs process_count and process_id"),
        (("localhost:1", 2, 2), "process_id=2: must be between 0 and 1"),
    ],
)
def test_arguments_that_do_not_belong_together(words, line):
    with pytest.raises(UserError, match=line):
        distributed.initialize(*words)


def test_alone_is_main():
    distributed.initialize()
    assert distributed.is_main()
    assert distributed.agreed(True)
    assert not distributed.agreed(False)


def test_a_run_whose_processes_cannot_reach_each_other_goes_on_unwatched(monkeypatch, capsys):
    """Process 0 waits in vain, and tells whoever came that it is not lost."""
    said = {}
    client = SimpleNamespace(key_value_set=said.__setitem__)
    monkeypatch.setattr(watching, "MINUTE", 50)
    state = SimpleNamespace(client=client, num_processes=2, process_id=0, coordinator_address="127.0.0.1:1")
    monkeypatch.setattr(distributed, "coordination", lambda: state)
    distributed._watch()
    assert "process 0 does not watch the others (timed out)" in capsys.readouterr().err
    assert watching.KEY in said

"""Two processes on CPU train as one does with the same global batch."""

import json
import socket

import numpy as np
import pytest

from arch.spec import UserError
from tests.train import children
from tests.train.test_loop import lines
from train.runtime import distributed

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
    one, two, other = (np.load(tmp_path / name) for name in ("one.0.npy", "two.0.npy", "two.1.npy"))
    np.testing.assert_array_equal(two, other)
    np.testing.assert_allclose(two, one, atol=1e-6)
    ours, theirs = lines(tmp_path / "two"), lines(tmp_path / "one")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [1, 2, 3, 3, 4, 4]
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-6)


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

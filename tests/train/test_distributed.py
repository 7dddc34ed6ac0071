"""Two processes on CPU train as one does with the same global batch."""

import json
import socket

import numpy as np
import pytest

from arch.spec import UserError
from tests.train import children
from tests.train.test_loop import lines
from train import distributed

MODULE = "tests.train.child_process"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(folder, **told) -> list[str]:
    """What both processes print, two devices in each; without what Gloo says from C++."""
    coordinator = f"127.0.0.1:{free_port()}"
    pair = [children.start(MODULE, folder, coordinator, 2, index, json.dumps(told), devices=2) for index in (0, 1)]
    try:
        ends = [children.finish(process) for process in pair]
    finally:
        for process in pair:
            process.kill()
    for end in ends:
        assert end.returncode == 0, end.stderr[-4000:]
    return ["\n".join(line for line in end.stdout.splitlines() if not line.startswith("[Gloo]")) for end in ends]


def test_two_processes_equal_one(tmp_path):
    """fsdp over both: losses to 1e-6 relative; parameters after six steps of 1e-2 to 2e-4 absolute."""
    told = {"mesh": {"fsdp": 4}, "accumulate": 2}
    children.run(MODULE, tmp_path / "one", "", 1, 0, json.dumps(told), devices=4)
    first, second = together(tmp_path / "two", **told)
    assert "step 6/6  validation loss" in first
    assert second == "", "only process 0 prints"
    one, two, other = (np.load(tmp_path / name) for name in ("one.0.npy", "two.0.npy", "two.1.npy"))
    np.testing.assert_array_equal(two, other)
    np.testing.assert_allclose(two, one, atol=2e-4)
    ours, theirs = lines(tmp_path / "two"), lines(tmp_path / "one")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [1, 2, 3, 3, 4, 5, 6, 6]
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    # A second start finds the checkpoint that both wrote, and nothing is left to do.
    again = together(tmp_path / "two", **told)
    assert "going on from step 6 of 6" in again[0]
    np.testing.assert_array_equal(np.load(tmp_path / "two.0.npy"), two)


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

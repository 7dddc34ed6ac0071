"""Tasks on a local Ray of two workers: killed ones are tried again, and the end is that of one process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from arch.spec import UserError
from experiments.study.work import ray_executor
from experiments.study.work.executors import Failure, InProcess
from experiments.study.work.ray_executor import ROOT, Ray
from tests.experiments.study.ray_work import environment, task, work

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def two_workers():
    """One Ray for all tests of this file."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = signal.getsignal(signal.SIGTERM)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


def results(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}


def test_a_killed_worker_costs_nothing_that_was_done(two_workers, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    said = []

    def tasks(folder, **killed):
        return [
            task(folder, "a", seconds=0.05),
            task(folder, "b", **killed),
            task(folder, "c", wrong=True),
            task(folder, "d", count=2),
        ]

    failures = Ray().run(tasks(there, die_at=3), work, said.append)
    assert failures == InProcess().run(tasks(here), work, said.append) == [Failure(2, "c: cannot be done")]
    assert results(there) == results(here)
    assert (there / "b.died").exists()
    assert (there / "b.tries").read_text() == "0\n3\n"  # the second try went on where the first had been killed
    assert {(there / f"{name}.tries").read_text() for name in "ad"} == {"0\n"}
    pids = {int((there / f"{name}.pid").read_text()) for name in "abd"}
    assert len(pids) == 3  # every task has a process of its own
    assert os.getpid() not in pids
    assert [line.partition(",")[0] for line in said if "ray" in line] == [f"ray: {n} of 4 tasks" for n in (1, 2, 3, 4)]
    assert said.count("task 3 of 4: c: cannot be done") == 2  # here and there
    assert ray.is_initialized()  # a connection that was there before stays


def test_a_worker_that_dies_every_time_is_a_failure(two_workers, tmp_path):
    tasks = [task(tmp_path, "a", die_at=1, always=True), task(tmp_path, "b")]
    (failure,) = Ray(retries=1).run(tasks, work, print)
    assert failure.index == 0
    assert failure.line.startswith("its worker was lost 2 times, the last time: ")
    assert len(failure.line.splitlines()) == 1
    assert len(failure.line) < 300
    assert (tmp_path / "a.tries").read_text() == "0\n1\n"
    assert list(results(tmp_path)) == ["a.txt", "b.txt"]


def test_a_defect_is_raised_with_its_own_type(two_workers, tmp_path):
    with pytest.raises(ZeroDivisionError, match="a defect"):
        Ray().run([task(tmp_path, "a", bug=True)], work, print)


def test_workers_have_this_checkout_the_environment_and_the_folder(two_workers, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("STRATA_CACHE", "/some/cache")
    monkeypatch.chdir(tmp_path)
    assert Ray().run([task(".", "seen")], environment, print) == []
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["JAX_PLATFORMS"], seen["STRATA_CACHE"], seen["cwd"]) == ("cpu", "/some/cache", str(tmp_path))
    assert str(ROOT) in seen["PYTHONPATH"].split(os.pathsep)


def test_ctrl_c_cancels_and_leaves_what_is_finished(two_workers, tmp_path):
    long = [task(tmp_path, name, count=400, seconds=0.1) for name in ("b", "c", "d")]
    interrupted = []

    def interrupt():
        while not (tmp_path / "b.txt").exists():
            time.sleep(0.05)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        Ray().run([task(tmp_path, "a"), *long], work, print)
    assert time.monotonic() - interrupted[0] < ray_executor.GRACE
    lengths = {name: len(text.splitlines()) for name, text in results(tmp_path).items()}
    assert lengths.pop("a.txt") == 5
    time.sleep(1.0)
    after = {name: len(text.splitlines()) for name, text in results(tmp_path).items() if name != "a.txt"}
    assert after == lengths  # nothing runs any more
    assert all(0 < length < 400 for length in after.values())


def test_more_than_any_machine_has_is_refused(two_workers):
    with pytest.raises(UserError) as caught:
        Ray(cpus=1, resources={"TPU": 4}).run(["x"], work, print)
    assert str(caught.value) == ("ray: a task takes CPU=1 TPU=4, and no machine of the cluster has as much (CPU=2)")


LISTENING = """
import psutil
from experiments.study.work import ray_executor
ray = ray_executor._import(local=True)
with ray_executor._connected(ray, None):
    mine = {ray_executor.os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    print(*{one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.pid in mine})
"""


def test_a_ray_of_our_own_is_heard_on_this_machine_alone():
    psutil = pytest.importorskip("psutil")
    assert psutil
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = [sys.executable, "-c", LISTENING]
    done = subprocess.run(words, cwd=ROOT, env=alone, capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert done.stdout.strip()

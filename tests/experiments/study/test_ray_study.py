"""A study on a local Ray of two workers, one of them killed within a cell, against the same in one process."""

import dataclasses
import json
import os
import signal

import pytest

from experiments.study.engine import run_study
from experiments.study.results import Results
from experiments.study.work.ray_executor import Ray
from tests.experiments.study import toy
from tests.experiments.study.deadly import Deadly

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def numbers(results: Results) -> str:
    """Everything but where and how long."""
    cells = [dataclasses.replace(cell, seconds=0.0) for cell in results.cells]
    return dataclasses.replace(results, cells=cells, provenance={}).to_json()


@pytest.fixture
def two_workers():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = signal.getsignal(signal.SIGTERM)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


def test_a_study_on_ray_with_a_killed_worker_ends_as_in_one_process(two_workers, tmp_path):
    marker = tmp_path / "died"
    study = toy.study(learning_rates=())
    name, deep = list(study.arms.items())[-1]
    deadly = dataclasses.replace(deep, data=Deadly(marker=str(marker)))
    study = dataclasses.replace(study, arms={**study.arms, name: deadly})
    said: list[str] = []
    there = run_study(study, "toy", tmp_path / "there", executor=Ray(), note=said.append)
    killed = int(marker.read_text())
    here = run_study(study, "toy", tmp_path / "here")  # with the marker there, nothing is killed
    assert killed != os.getpid()
    assert numbers(there) == numbers(here)
    assert "ray: 2 of 2 tasks, 0 failed" in said
    stored = [json.loads((tmp_path / where / "results.json").read_text()) for where in ("here", "there")]
    assert stored[0]["verdicts"] == stored[1]["verdicts"] != []

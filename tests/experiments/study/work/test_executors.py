"""Tasks in this process, and what executors are."""

import sys

import pytest

from arch.spec import SpecError, UserError
from experiments.study.work.executors import Failure, InProcess
from experiments.study.work.ray_executor import Ray
from tests.experiments.config.toys import Attention
from tests.experiments.study.ray_work import task, work


def test_a_mistake_in_one_task_does_not_stop_the_others(tmp_path):
    def spec_error(text):
        return Attention(heads=0) if text == "bad spec" else work(text)

    tasks = [task(tmp_path, "a"), task(tmp_path, "b", wrong=True), "bad spec", task(tmp_path, "c")]
    said = []
    assert InProcess().run(tasks, spec_error, said.append) == [
        Failure(1, "b: cannot be done"),
        Failure(2, "Attention.heads=0: must be at least 1"),
    ]
    assert said == ["task 2 of 4: b: cannot be done", "task 3 of 4: Attention.heads=0: must be at least 1"]
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["a.txt", "c.txt"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_any_other_error_stops_and_leaves_what_is_finished(tmp_path, error):
    def stop(text):
        if text == "stop":
            raise error
        work(text)

    with pytest.raises(error):
        InProcess().run([task(tmp_path, "a"), "stop", task(tmp_path, "b")], stop, print)
    assert [path.name for path in tmp_path.glob("*.txt")] == ["a.txt"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpus": -1}, "Ray.cpus=-1: must be at least 0"),
        ({"retries": -1}, "Ray.retries=-1: must be at least 0"),
        ({"resources": {"GPU": 1}}, "Ray.resources='GPU': is given as gpus"),
        ({"resources": {"TPU": 0}}, "Ray.resources[TPU]=0: must be greater than 0"),
    ],
)
def test_resources_that_cannot_be(fields, said):
    with pytest.raises(SpecError) as caught:
        Ray(**fields)
    assert str(caught.value) == said


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as caught:
        Ray().run(["x"], work, print)
    assert str(caught.value).startswith("executor ray: Ray cannot be imported (")
    assert str(caught.value).endswith("); pip install ray")

"""Memory: a run that cannot be held is told before anything is allocated, and costs no second compilation."""

import dataclasses

import jax
import pytest

from arch.spec import SpecError, UserError
from tests.train import toys
from train.loop import train
from train.runtime import memory as room
from train.setup import prepare


def test_a_run_that_memory_cannot_hold_is_one_line(tmp_path, monkeypatch):
    """The estimate is made of shapes: no array of the state is there when it is told."""
    monkeypatch.setattr("train.runtime.memory.process_memory", lambda: 1_000_000)
    monkeypatch.setattr("train.loop._Loop.fresh", lambda self: pytest.fail("allocated"))
    line = r"out of memory: a step takes \d MiB on each cpu device, which has 1 MiB; take fewer rows \(batch\)"
    with pytest.raises(UserError, match=line):
        train(toys.run(), tmp_path)


def test_the_estimate_is_compiled_once(tmp_path):
    """For a step that is called with what the loop calls it with."""
    run = toys.run(seed=11)
    program, compiled = prepare(run, run.data.describe()), []
    needed = room.demand(program)
    assert needed > sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.abstract))
    state, batch = program.start(), program.place(next(program.batches(run.data.build())))
    listener = lambda name, seconds, **told: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    program.train_step(state, batch, program.go())
    jax.monitoring.unregister_event_duration_listener(listener)
    assert compiled == []


def test_what_a_process_may_have():
    assert 2**27 < room.process_memory() < 2**50


ERRORS = {
    "Python": (MemoryError(), r"out of memory \(MemoryError\); take fewer rows"),
    "numpy": (MemoryError("Unable to allocate 9.00 TiB"), r"out of memory \(Unable to allocate 9.00 TiB\)"),
    "a device": (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes."),
                 r"out of memory \(RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\); take fewer"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "line"), ERRORS.values(), ids=ERRORS)
def test_memory_that_runs_out_all_the_same_is_one_line(tmp_path, monkeypatch, error, line):
    def fail(self):
        raise error

    monkeypatch.setattr("train.runtime.memory.check", lambda program: None)
    monkeypatch.setattr("train.loop._Loop.fresh", fail)
    with pytest.raises(UserError, match=line) as told:
        train(toys.run(), tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("fields", [{"depth": 10**9}, {"width": 10**12}, {"vocab": 10**12}, {"depth": 2**16 + 1}])
def test_a_model_without_bounds_is_refused_at_once(fields):
    with pytest.raises(SpecError, match=r"must be at most (65536|2147483647)"):
        toys.model(**fields)


@pytest.mark.parametrize("fields", [{"batch": 10**12}, {"steps": 10**12}])
def test_a_run_without_bounds_is_refused_at_once(fields):
    with pytest.raises(SpecError, match="must be at most 2147483647"):
        dataclasses.replace(toys.run(), **fields)

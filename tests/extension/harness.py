"""What every foreign mechanism is put through. A case is a run that is given on the command line alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from arch.models.base import Inputs
from arch.params import merge, split
from arch.taps import Tap
from experiments.config.flags import read
from train.ensemble import Ensemble
from train.forward import report
from train.record.checkpoint import Checkpoints
from train.run import Run
from train.setup import CompiledRun, prepare
from train.sharding.mesh import Mesh
from train.step import EVALUATION

CONFIG = "tests/extension/base.py"
PARTS = "tests.extension.parts"
SPREAD = Mesh(data=2, fsdp=2, tensor=2)
"""8 devices: rows, widths, heads and hidden units are all split."""

ROWS = Mesh(data=8)
"""8 devices that split rows alone, each by itself."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One mechanism.

    Attributes:
      words: the overrides that put it into the base run.
      flops: FLOPs of one row forward, by hand; None: they are only compared with those of the base run.
      sites: tap sites that it has -> the shape of what they save of a batch.
      meshes: of 8 devices, on which it is trained as well.
      learns: whether these few steps must lower the loss of the validation split; else it must change.
      decodes: whether it is also tried in going on from a cache.
    """

    words: tuple[str, ...]
    sites: Mapping[str, tuple[int, ...]]
    flops: int | None = None
    meshes: tuple[Mesh, ...] = (SPREAD,)
    learns: bool = True
    decodes: bool = False


def command_line(*words: str) -> Run:
    """The run that `launch.py train --config=CONFIG --config.WORD ...` would train."""
    argv = ["launch.py", "train", f"--config={CONFIG}", *(f"--config.{word}" for word in words)]
    spec = read(argv, {"train": "train"}, flags.FlagValues(), lambda: None).spec
    assert isinstance(spec, Run)
    return spec


@dataclasses.dataclass(frozen=True)
class Steps:
    """What training did: the state before and after the steps, on the host, their metrics, and those of the validation
    split before and after them."""

    program: CompiledRun
    dataset: Any
    first: Any
    state: Any
    told: list[dict[str, Any]]
    before: dict[str, Any]
    evaluated: dict[str, Any]

    @property
    def model(self) -> Any:
        return self.program.model(jax.tree.map(jnp.asarray, self.state))

    @property
    def losses(self) -> list[float]:
        return [one["loss"] for one in self.told]


@functools.cache
def steps(run: Run, seeds: tuple[int, ...] = ()) -> Steps:
    """All the steps of `run`, or of its replicas with these seeds."""
    ensemble = Ensemble(tuple({"seed": seed} for seed in seeds)) if seeds else None
    dataset = run.data.build()
    program = prepare(run, dataset.description, ensemble=ensemble)
    state = program.start()
    first, before = jax.device_get(state), evaluation(program, dataset, state)
    state, told = taken(program, dataset, state)
    return Steps(program, dataset, first, jax.device_get(state), told, before, evaluation(program, dataset, state))


def taken(program: CompiledRun, dataset: Any, state: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The state after all the steps, and the metrics of each on the host."""
    fine, batches, told = program.go(), program.batches(dataset), []
    for _ in range(program.run.steps):
        state, metrics = program.train_step(state, program.place(next(batches)), fine)
        told.append(jax.tree.map(np.asarray, jax.device_get(metrics)))
    return state, told


@dataclasses.dataclass(frozen=True)
class Spread:
    """What a mesh of 8 devices came to: the last state and the metrics as in `Steps`, evaluated where devices evaluate
    rows by themselves, and into how many different parts the parameter that is split most lies on the devices."""

    state: Any
    told: list[dict[str, Any]]
    evaluated: dict[str, Any] | None
    parts: int


def on_mesh(run: Run, mesh: Mesh, first: Any) -> Spread:
    """All the steps of `run` on `mesh`, from the state `first`."""
    dataset = run.data.build()
    program = prepare(dataclasses.replace(run, mesh=mesh), dataset.description)
    state, told = taken(program, dataset, jax.device_put(first, program.shardings))
    leaves = jax.tree.leaves(state["params"])
    parts = max(len({str(shard.index) for shard in leaf.addressable_shards}) for leaf in leaves)
    evaluated = evaluation(program, dataset, state) if mesh == ROWS else None
    return Spread(jax.device_get(state), told, evaluated, parts)


def evaluation(program: CompiledRun, dataset: Any, state: Any, rows: int = 8) -> dict[str, Any]:
    """The metrics over the validation split, in batches of `rows`."""
    sums = None
    for batch in dataset.validation(rows):
        one = jax.device_get(program.eval_step(state["params"], state["buffers"], program.place(batch, train=False)))
        sums = one if sums is None else jax.tree.map(np.add, sums, one)
    return {name: np.asarray(value) for name, value in report(program.run.objective, sums).items()}


def resumed(done: Steps, folder: Any, at: int = 2) -> Any:
    """The state after all the steps, saved and restored after `at` of them, and the metrics of those that followed."""
    program, told = done.program, []
    state, fine, batches = done.first, program.go(), program.batches(done.dataset)
    for _ in range(at):
        state, _ = program.train_step(state, program.place(next(batches)), fine)
    with Checkpoints(folder, 1) as checkpoints:
        checkpoints.save(at, state, batches.get_state())
    with Checkpoints(folder, 1) as checkpoints:
        restored = checkpoints.restore(program.abstract)
    assert restored is not None
    state, batches = restored.state, program.batches(done.dataset)
    batches.set_state(restored.data)
    for _ in range(at, program.run.steps):
        state, metrics = program.train_step(state, program.place(next(batches)), fine)
        told.append(jax.device_get(metrics))
    return jax.device_get(state), told


def tapped(done: Steps, sites: str) -> tuple[float, dict[str, Any]]:
    """The loss of the first batch of the validation split, and what was saved at `sites`."""
    batch = next(iter(done.dataset.validation(done.program.run.batch)))
    key = jax.random.key(EVALUATION)

    def call(params: Any, buffers: Any, batch: Any) -> Any:
        looks = {"training": False, "tap": Tap(save=sites)}
        forward = done.program.learner.forward.holding(done.program.frozen())
        sums, output = forward(params, buffers, batch, None, key, **looks)
        return sums.loss.total, output.taps

    total, taps = jax.jit(call)(done.state["params"], done.state["buffers"], batch)
    return float(total), taps


def untapped(done: Steps) -> float:
    """The same loss by the step of an evaluation."""
    batch = next(iter(done.dataset.validation(done.program.run.batch)))
    return float(done.program.eval_step(done.state["params"], done.state["buffers"], batch).loss.total)


def continued(model: Any, inputs: Inputs, cut: int, back: int, snapshots: int = 4) -> tuple[Any, Any, Any]:
    """Logits of the tokens from `cut` on, in three ways: of the whole rows at once; one token after another from a
    cache that holds those before; and so again after the last `back` of them were taken back."""
    graphdef, params, buffers = split(model)
    call = jax.jit(lambda inputs, cache: merge(graphdef, params, buffers)(inputs, cache=cache))
    B, T = inputs.tokens.shape
    whole = call(inputs, None).logits[:, cut:]
    cache = model.init_cache(B, T, snapshots=snapshots)
    cache = call(dataclasses.replace(inputs, tokens=inputs.tokens[:, :cut]), cache).cache

    def on(cache: Any, start: int) -> tuple[Any, Any]:
        logits = []
        for at in range(start, T):
            output = call(Inputs(tokens=inputs.tokens[:, at : at + 1]), cache)
            logits, cache = [*logits, output.logits], output.cache
        return np.concatenate(logits, axis=1), cache

    once, cache = on(cache, cut)
    again, _ = on(cache.rewound(cache.index - back), T - back)
    return np.asarray(whole), once, again


def difference(a: Any, b: Any) -> float:
    """The largest absolute difference between two trees of arrays."""
    gaps = jax.tree.map(lambda x, y: np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64))), a, b)
    return float(max(jax.tree.leaves(gaps), default=0.0))

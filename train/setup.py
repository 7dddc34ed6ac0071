"""From a run to the compiled functions that train it on a mesh."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from arch import cost
from arch.params import Buffer, logical_axes, merge, roles
from arch.params import split as split_module
from train.data.description import Description
from train.ensemble import Ensemble, MemberBatches
from train.forward import ROW, Forward, Params, Sums
from train.optim import state_axes
from train.optim.batch_warmup import BatchWarmup
from train.programs import Steps, lone, one_program, shapes_of, vectorised
from train.run import Run
from train.runtime.compilation import options, start_options
from train.sharding import placement
from train.starts.beside import Arrays, graphs
from train.starts.frozen import Bound, reader
from train.starts.frozen import placed as frozen_arrays
from train.step import State, StepFunctions
from train.trees import Split

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class CompiledRun:
    """A run made ready: what its steps are, where its arrays lie, and the compiled functions.

    With an `ensemble` every array of the state, of the metrics, of the sums of a loss and of the batches to train on
    has a leading axis R; batches to evaluate on are one for all.

    Attributes:
      run: its configuration.
      ensemble: the replicas; None: the run alone.
      mesh: the devices.
      learner: the steps of the run alone as pure functions.
      abstract: the state as `jax.ShapeDtypeStruct`s with their shardings; what a checkpoint is restored to.
      start: `() -> state` before the first step. Each device makes its own part; the numbers depend on the seeds alone.
      train_step: `(state, batch, go) -> (state, metrics)`; the state that goes in is donated.
      eval_step: `(params, buffers, batch) -> Sums`.
      frozen: `() -> arrays` of the frozen models that the objective reads, where they lie; read once.
      counted: what the speed of a replica counts, "tokens" or "rows", and how many of them a step has.
    """

    run: Run
    ensemble: Ensemble | None
    mesh: jax.sharding.Mesh
    learner: StepFunctions
    abstract: State
    start: Callable[[], State]
    train_step: Callable[[State, Mapping[str, jax.Array], jax.Array], tuple[State, dict[str, jax.Array]]]
    eval_step: Callable[[Params, Params, Mapping[str, jax.Array]], Sums]
    frozen: Callable[[], Arrays]
    counted: tuple[str, int]

    @property
    def shardings(self) -> State:
        """Where every array of the state lies."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)

    def go(self) -> jax.Array:
        """The `go` of the first step: everything is finite so far."""
        shape = () if self.ensemble is None else (len(self.ensemble),)
        return jax.device_put(np.ones(shape, bool), placement.replicated(self.mesh))

    def batches(self, dataset: Any) -> Any:
        """The batches to train on, of this process: endless, with `get_state` and `set_state`."""
        processes = jax.process_index(), jax.process_count()
        if self.ensemble is None:
            return dataset.train(self.run.batch, self.run.seed, *processes)
        seeds, which = self.ensemble.seeds(self.run)
        return MemberBatches([dataset.train(self.run.batch, seed, *processes) for seed in seeds], which)

    def place(self, batch: Mapping[str, np.ndarray], *, train: bool = True) -> dict[str, Any]:
        """This process's rows as the global batch, an argument of the steps."""
        stacked = train and self.ensemble is not None
        return placement.place_batch(self.mesh, batch, stacked=stacked)

    def model(self, state: Mapping[str, Any]) -> Any:
        """The model with the parameters and buffers of a state, of one replica."""
        return merge(self.learner.forward.graphdef, state["params"], state["buffers"])

    def step_flops(self, batch: Mapping[str, Any]) -> int:
        """Model FLOPs of one step of all replicas: three forward passes, without what rematerialisation repeats; one of
        frozen models."""
        told, replicas = [self.abstract["params"], self.abstract["buffers"], dict(batch)], 1
        if self.ensemble is not None:
            drop = lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)  # noqa: E731
            told, replicas = jax.tree.map(drop, told), len(self.ensemble)
        _, shapes = graphs(self.run.objective.frozen)
        own = lambda frozen, *told: self.learner.holding(frozen).eval_step(*told)  # noqa: E731
        still = cost.flops(self.learner.forward.still, shapes, told[-1])
        return replicas * (3 * cost.flops(own, shapes, *told) - 2 * still)


def prepare(
    run: Run, data: Description, devices: Sequence[jax.Device] | None = None, ensemble: Ensemble | None = None
) -> CompiledRun:
    """The program of `run` on data of this description, or of its `ensemble`, on the devices of its mesh, by default of
    all there are.

    Raises:
      SpecError: parts that do not fit each other, the devices or the data.
      UserError: members that vary what must be the same for all.
    """
    for error in run.conflicts(None if devices is None else len(devices)):
        raise error
    for error in run.objective.unfit(run.model, data):
        raise error
    mesh = run.mesh.build(devices)
    module = run.abstract_model()
    graphdef, params, buffers = split_module(module)
    axes = logical_axes(module)
    beside, _ = graphs(run.objective.frozen)
    held = frozen_arrays(run.objective.frozen, mesh, DTYPES[run.precision])
    split = Split(frozenset(run.optimizer.frozen(params)))
    trained, _ = split(params)
    if not jax.tree.leaves(trained) and not jax.tree.leaves(buffers):  # codes that are running means learn all the same
        raise run.optimizer.invalid("freeze", "must leave a parameter to train, or a part with buffers")

    def learner_of(run: Run) -> StepFunctions:
        multiplier = run.optimizer.schedule.build(run.steps)
        return StepFunctions(
            forward=Forward(graphdef, run.objective.build(data), placement.MeshPlacement(mesh), beside),
            objective=run.objective,
            tx=run.optimizer.build(params, run.steps, roles=roles(module), axes=axes, seed=run.seed),
            split=split,
            rate=lambda step: run.optimizer.learning_rate * multiplier(step),
            accumulate=run.micro_batches,
            taken=run.accumulate.taken if isinstance(run.accumulate, BatchWarmup) else None,
            seed=run.seed,
            dtype=DTYPES[run.precision],
        )

    def initial(run: Run) -> State:
        _, params, buffers = split_module(run.model.build(rngs=nnx.Rngs(jax.random.key(run.seed))))
        return learner_of(run).start(params, buffers)

    learner = learner_of(run)
    names = {
        "step": (),
        "params": axes,
        "buffers": logical_axes(module, Buffer),
        "opt_state": state_axes(learner.tx, trained, split(axes)[0]),
    }
    abstract = jax.eval_shape(learner.start, params, buffers)
    steps = Steps((), lambda: initial(run), *lone(learner, bool(beside)))
    rows = placement.batch_sharding(mesh)
    train_rows = rows
    if ensemble is not None:
        ensemble.check(run)
        if len(ensemble) % mesh.shape["replica"]:
            raise run.mesh.invalid("replica", f"must divide the {len(ensemble)} replicas of the ensemble")
        steps = vectorised(run, ensemble, learner_of, initial)
        names = jax.tree.map(lambda leaf, axes: ("replica", *axes), abstract, names)
        abstract = shapes_of(steps, ensemble)
        train_rows = placement.batch_sharding(mesh, stacked=True)
    abstract = _place(abstract, names, mesh)
    whole = placement.replicated(mesh)
    where = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    platform = mesh.devices.flat[0].platform
    jit = functools.partial(jax.jit, compiler_options=options(platform))
    own = tuple(jax.tree.map(lambda _: whole, value) for value in steps.first)
    given = (jax.tree.map(lambda leaf: leaf.sharding, held),) if beside else ()
    start = jax.jit(steps.initial, in_shardings=own, out_shardings=where, compiler_options=start_options(platform))
    train_step = jit(
        steps.train_step,
        in_shardings=(*own, *given, where, train_rows, whole),
        out_shardings=(where, whole),
        donate_argnums=len(own) + len(given),
    )
    weights = where["params"], where["buffers"]
    eval_step = jit(steps.eval_step, in_shardings=(*own, *given, *weights, rows), out_shardings=whole)
    bind: Callable[[Any], Any] = lambda fn: functools.partial(fn, *steps.first) if steps.first else fn  # noqa: E731
    read = reader(run.objective.frozen, held)
    hold: Callable[[Any], Any] = lambda fn: Bound(fn, held, read) if beside else fn  # noqa: E731
    program = CompiledRun(
        run=run,
        ensemble=ensemble,
        mesh=mesh,
        learner=learner,
        abstract=abstract,
        start=bind(start),
        train_step=hold(bind(train_step)),
        eval_step=hold(bind(eval_step)),
        frozen=read,
        counted=_counted(run, learner, data),
    )
    if ensemble is not None:
        _try_steps(program, data, ensemble, train_rows, rows)
    return program


def _counted(run: Run, learner: StepFunctions, data: Description) -> tuple[str, int]:
    """What the speed counts, and how many of them a step of one replica has."""
    if run.objective.unit == "rows":
        return "rows", run.batch
    batch = {name: jax.ShapeDtypeStruct(*kind) for name, kind in data.batch(run.batch).items() if name != ROW}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), run.batch))
    _, shapes = graphs(run.objective.frozen)
    inputs, _ = jax.eval_shape(
        lambda frozen, *told: learner.forward.holding(frozen).prepared(*told), shapes, batch, keys
    )
    return "tokens", inputs.tokens.size


def _try_steps(
    program: CompiledRun, data: Description, ensemble: Ensemble, train_rows: NamedSharding, eval_rows: NamedSharding
) -> None:
    """Traces both steps as they will be called, and so but once, before anything runs.

    Raises UserError if one of them depends on a value that was to vary.
    """
    run, state = program.run, program.abstract

    def batch(rows: int, sharding: NamedSharding, stack: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
        placed = sharding if jax.process_count() > 1 else None  # as `placement.place_batch` does
        arrays = data.batch(rows).items()
        return {name: jax.ShapeDtypeStruct((*stack, *shape), dtype, sharding=placed) for name, (shape, dtype) in arrays}

    go = jax.ShapeDtypeStruct((len(ensemble),), jnp.bool_, sharding=placement.replicated(program.mesh))
    with one_program(ensemble):
        jax.eval_shape(program.train_step, state, batch(run.batch, train_rows, (len(ensemble),)), go)
        weights = state["params"], state["buffers"]
        jax.eval_shape(program.eval_step, *weights, batch(run.batch // run.micro_batches, eval_rows, ()))


def _place(state: State, names: Any, mesh: jax.sharding.Mesh) -> State:
    """The abstract state with the sharding of each array."""
    where: dict[str, NamedSharding] = placement.shardings(mesh, names, state)
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, where)

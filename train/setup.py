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
from train import mesh as meshes
from train.compilation import options, start_options
from train.objectives.base import Loss
from train.optim import state_axes
from train.run import Run
from train.step import Learner, Params, State

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Program:
    """A run made ready: what its steps are, where its arrays lie, and the compiled functions.

    Attributes:
      run: what was asked for.
      mesh: the devices.
      learner: the steps as pure functions.
      abstract: the state as `jax.ShapeDtypeStruct`s with their shardings; what a checkpoint is restored to.
      train_step: `(state, batch, go) -> (state, metrics)`; the state that goes in is donated.
      eval_step: `(params, batch) -> Loss`.
    """

    run: Run
    mesh: jax.sharding.Mesh
    learner: Learner
    abstract: State
    train_step: Callable[[State, Mapping[str, jax.Array], jax.Array], tuple[State, dict[str, jax.Array]]]
    eval_step: Callable[[Params, Mapping[str, jax.Array]], Loss]

    @property
    def shardings(self) -> State:
        """Where every array of the state lies."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)

    def start(self) -> State:
        """The state before the first step. Each device makes its own part; the numbers depend on the seed alone."""

        def make(key: jax.Array) -> State:
            return self.learner.start(_params(self.run.model.build(rngs=nnx.Rngs(key))))

        own = start_options(self.mesh.devices.flat[0].platform)
        return jax.jit(make, out_shardings=self.shardings, compiler_options=own)(jax.random.key(self.run.seed))

    def place(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """This process's rows as the global batch, to be handed to the steps."""
        return meshes.place_batch(self.mesh, batch)

    def model(self, params: Params) -> Any:
        """The model with these parameters."""
        return nnx.merge(self.learner.graphdef, params)

    def step_flops(self, batch: Mapping[str, jax.Array]) -> int:
        """Model FLOPs of one step: three forward passes, without what rematerialisation repeats."""
        return 3 * cost.flops(self.learner.eval_step, self.abstract["params"], batch)


def prepare(run: Run, dataset: Any, devices: Sequence[jax.Device] | None = None) -> Program:
    """The program of `run` on the devices of its mesh, by default of all there are.

    Raises:
      SpecError: parts that do not fit each other, the devices or the data.
    """
    for error in run.conflicts(None if devices is None else len(devices)):
        raise error
    tokens = getattr(dataset, "vocab", 0)
    if getattr(run.model, "vocab", tokens) < tokens:
        raise run.model.refuse("vocab", f"must be at least {tokens}, the tokens of the data")
    mesh = run.mesh.build(devices)
    module = run.abstract_model()
    graphdef, _ = nnx.split(module, nnx.Param)
    params, axes = _params(module), logical_axes(module)
    tx = run.optimizer.build(params, run.steps, axes=axes)
    multiplier = run.optimizer.schedule.build(run.steps)
    learner = Learner(
        graphdef=graphdef,
        loss=run.objective.build(dataset),
        objective=run.objective,
        tx=tx,
        rate=lambda step: run.optimizer.learning_rate * multiplier(step),
        accumulate=run.accumulate,
        seed=run.seed,
        dtype=DTYPES[run.precision],
        placement=meshes.MeshPlacement(mesh),
    )
    abstract = _place(jax.eval_shape(learner.start, params), params, axes, learner, mesh)
    whole, rows = meshes.replicated(mesh), meshes.batch_sharding(mesh)
    where = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    jit = functools.partial(jax.jit, compiler_options=options(mesh.devices.flat[0].platform))
    return Program(
        run=run,
        mesh=mesh,
        learner=learner,
        abstract=abstract,
        train_step=jit(
            learner.train_step,
            in_shardings=(where, rows, whole),
            out_shardings=(where, whole),
            donate_argnums=0,
        ),
        eval_step=jit(learner.eval_step, in_shardings=(where["params"], rows), out_shardings=whole),
    )


def logical_axes(module: nnx.Module) -> dict[str, Any]:
    """The logical axes of every parameter, in the structure of the parameters."""
    tree: dict[str, Any] = {}
    for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        node = tree
        *parents, name = map(str, path)
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = tuple(param.get_metadata()["axes"])
    return tree


def _params(module: nnx.Module) -> dict[str, Any]:
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def _place(state: State, params: Params, axes: Params, learner: Learner, mesh: jax.sharding.Mesh) -> State:
    """The abstract state with the sharding of each array."""
    names = {"step": (), "params": axes, "opt_state": state_axes(learner.tx, params, axes)}
    where: dict[str, NamedSharding] = meshes.shardings(mesh, names, state)
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, where)

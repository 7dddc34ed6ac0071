"""What to say when a step is not finite: which layer or parameter first went wrong."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.taps import Tap
from train.mesh import replicated
from train.setup import Program
from train.step import Batch, Params, State

BEFORE = ("embed",)
IN_LAYER = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
AFTER = ("final_norm", "logits")
SITES = (*BEFORE, *IN_LAYER, *AFTER)
"""The tap sites looked at, in the order of the forward pass."""


@dataclasses.dataclass
class _Tapped:
    """Stands in for a model in a loss function and keeps whether each site of the call was finite."""

    model: Any
    finite: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self.model(*args, tap=Tap(save="|".join(SITES)), **kwargs)
        for site, value in out.taps.items():
            axes = tuple(range(1 if site in IN_LAYER else 0, value.ndim))
            self.finite[site] = jnp.all(jnp.isfinite(value), axis=axes)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def explain(program: Program, state: State, batch: Batch) -> str:
    """Where a step with `state` on `batch` first goes wrong, as the end of a sentence.

    The parts are looked at in the order of the computation: the forward pass of each micro-batch, site by site and
    layer by layer (0-based), then its loss, then the gradient of each parameter.
    """
    learner, whole = program.learner, replicated(program.mesh)
    jit = functools.partial(jax.jit, out_shardings=whole)

    def micro_batch(batch: Batch, step: jax.Array, index: jax.Array) -> tuple[Batch, jax.Array]:
        key = learner.key(step)
        if learner.accumulate == 1:
            return batch, key
        rows = {name: array[index] for name, array in learner.micro_batches(batch).items()}
        return rows, jax.random.fold_in(key, index)

    @jit
    def forward(params: Params, *which: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        spies: list[_Tapped] = []

        def spied(model: Any, *rest: Any) -> Any:
            spies.append(_Tapped(model))
            return learner.loss(spies[-1], *rest)

        loss = dataclasses.replace(learner, loss=spied).losses(learner.cast(params), *micro_batch(*which))
        return jnp.isfinite(loss.total), spies[0].finite

    @jit
    def backward(params: Params, *which: Any) -> Params:
        grads = jax.grad(lambda compute: learner.losses(compute, *micro_batch(*which)).total)(learner.cast(params))
        return _flags(grads)

    params = state["params"]
    for index in range(learner.accumulate):
        which = batch, state["step"], jnp.int32(index)
        loss_finite, sites = jax.device_get(forward(params, *which))
        where = _first_site(sites)
        if where or not loss_finite:
            place = f"the first values that are not finite are in {where}" if where else "only the loss is not finite"
            bad = unfinite(program, params)
            return f"{place}; the parameter {bad[0]} is not finite itself" if bad else place
        bad = _paths(backward(params, *which))
        if bad:
            return f"the forward pass is finite, but the gradient of {', '.join(bad[:3])} is not"
    return "each gradient is finite, but the sum of their squares is not"


def unfinite(program: Program, params: Params) -> list[str]:
    """The paths of the parameters that are not finite. One pass over them where they lie."""
    return _paths(jax.jit(_flags, out_shardings=replicated(program.mesh))(params))


def _flags(tree: Params) -> Params:
    return jax.tree.map(_finite, tree)


def _finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


def _first_site(finite: dict[str, np.ndarray]) -> str:
    """The first bad site in forward order; "" if all are good."""
    for site in BEFORE:
        if not finite.get(site, True):
            return site
    layers = max((np.size(finite[site]) for site in IN_LAYER if site in finite), default=0)
    for layer in range(layers):
        for site in IN_LAYER:
            if site in finite and not finite[site][layer]:
                return f"{site} of layer {layer}"
    return next((site for site in AFTER if not finite.get(site, True)), "")


def _paths(finite: Any) -> list[str]:
    """The dotted paths of the arrays that are not finite, in the order of the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(finite))
    return [".".join(str(key.key) for key in path) for path, good in leaves if not good]

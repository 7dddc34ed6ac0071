"""What to say when a step is not finite: which layer or parameter first went wrong."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.taps import Tap
from train.forward import Batch, Params, numbered
from train.setup import CompiledRun
from train.sharding.placement import replicated
from train.step import OBJECTIVE, State

SITES = r"(.*\.)?(embed|resid_\w+|\w+_out|final_norm|pooled|logits)"
"""The tap sites looked at."""

ORDER = ("embed", "resid_pre", "attn_out", "resid_mid", "", "mlp_out", "resid_post", "final_norm", "pooled", "logits")
"""How they follow each other in a forward pass; "" stands for further sublayers."""

OUTSIDE = ("embed", "final_norm", "pooled", "logits")
"""Those that are not of a layer."""


def explain(program: CompiledRun, state: State, batch: Batch) -> str:
    """Where a step with `state` on `batch` first goes wrong, as the end of a sentence.

    The parts are looked at in the order of the computation: the forward pass of each micro-batch, site by site and
    layer by layer (0-based), then its loss, then the gradient of each parameter.
    """
    learner, whole = program.learner, replicated(program.mesh)
    jit = functools.partial(jax.jit, out_shardings=whole)

    def micro_batch(batch: Batch, step: jax.Array, index: jax.Array) -> tuple[Batch, jax.Array, jax.Array]:
        key = learner.key(step)
        rows, model_key = learner.micro_batch(numbered(batch), key, index)
        return rows, model_key, jax.random.fold_in(key, OBJECTIVE)

    @jit
    def forward(
        frozen: Any, params: Params, buffers: Params, *which: Any
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        tap = Tap(save=SITES, strict=False)
        forward = learner.holding(frozen).forward
        sums, output = forward(learner.cast(params), buffers, *micro_batch(*which), training=True, tap=tap)
        told = {"the loss": sums.loss.total, **{f"the loss {name}": one.total for name, one in sums.losses.items()}}
        told |= {f"the statistics of {path}": value for path, value in sums.statistics.items()}
        flags = {name: jnp.stack([_finite(leaf) for leaf in jax.tree.leaves(value)]) for name, value in told.items()}
        return flags, {site: _each_layer(site, value) for site, value in output.taps.items()}

    @jit
    def backward(frozen: Any, params: Params, buffers: Params, *which: Any) -> Params:
        def loss(compute: Params) -> jax.Array:
            forward = learner.holding(frozen).forward
            return learner.total(forward(compute, buffers, *micro_batch(*which), training=True)[0])

        return _flags(jax.grad(loss)(learner.cast(params)))

    params, buffers, frozen = state["params"], state["buffers"], program.frozen()
    for index in range(learner.accumulate if learner.taken is None else int(learner.taken(state["step"]))):
        which = batch, state["step"], jnp.int32(index)
        flags, sites = jax.device_get(forward(frozen, params, buffers, *which))
        where, losses = _first_site(sites), [name for name, good in flags.items() if not good.all()]
        if where or losses:
            only = "only the loss is not finite" if losses == ["the loss"] else f"not finite: {', '.join(losses)}"
            place = f"the first values that are not finite are in {where}" if where else only
            for kind, tree in (("parameter", params), ("buffer", buffers)):
                if bad := unfinite(program, tree):
                    return f"{place}; the {kind} {bad[0]} is not finite itself"
            return place
        bad = _paths(backward(frozen, params, buffers, *which))
        if bad:
            return f"the forward pass is finite, but the gradient of {', '.join(bad[:3])} is not"
    return "each gradient is finite, but the sum of their squares is not"


def unfinite(program: CompiledRun, params: Params) -> list[str]:
    """The paths of the parameters, or buffers, that are not finite. One pass over them where they lie."""
    return _paths(jax.jit(_flags, out_shardings=replicated(program.mesh))(params))


def _flags(tree: Params) -> Params:
    return jax.tree.map(_finite, tree)


def _finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


def _each_layer(site: str, value: Any) -> jax.Array:
    """Whether a saved value is finite, one flag a layer where it is of layers."""
    if isinstance(value, tuple):  # of layers with different shapes
        return jnp.stack([_finite(one) for one in value])
    outside = site.rpartition(".")[2] in OUTSIDE or ".out" in site
    return jnp.all(jnp.isfinite(value), axis=tuple(range(0 if outside else 1, value.ndim)))


def _first_site(finite: dict[str, np.ndarray]) -> str:
    """The first bad site in forward order, encoders before decoders; "" if all are good."""

    def place(site: str) -> tuple[bool, str, int]:
        scope, _, name = site.rpartition(".")
        return not scope.startswith("encoder"), scope, ORDER.index(name if name in ORDER else "")

    sites = sorted(finite, key=place)
    for scope in dict.fromkeys(site.rpartition(".")[0] for site in sites):
        mine = [site for site in sites if site.rpartition(".")[0] == scope]
        layers = max((np.size(finite[site]) for site in mine if np.ndim(finite[site])), default=0)
        before = [site for site in mine if not np.ndim(finite[site]) and place(site)[2] == 0]
        steps: list[tuple[str, int | None]] = [(site, None) for site in before]
        steps += [(site, layer) for layer in range(layers) for site in mine if np.ndim(finite[site])]
        steps += [(site, None) for site in mine if not np.ndim(finite[site]) and site not in before]
        for site, layer in steps:
            if layer is None and not finite[site]:
                return site
            if layer is not None and layer < np.size(finite[site]) and not finite[site][layer]:
                return f"{site} of layer {layer}"
    return ""


def _paths(finite: Any) -> list[str]:
    """The dotted paths of the arrays that are not finite, in the order of the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(finite))
    return [".".join(str(key.key) for key in path) for path, good in leaves if not good]

"""The depth panel: what every layer of a trained model does, measured on one batch.

The model is looked at through the loss that trained it, with taps or gates, so that any model with one stack of blocks,
alike or in a pattern, can be examined, whatever its inputs and its loss are. The loss is the objective's alone, without
those of the model's parts.

Where a block is not additive (post-norm) `attn_contribution` and its like still compare what a sublayer wrote with the
stream that it was added to; `block_contribution` is the change of the stream over the whole block.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arch.context import Gates
from arch.params import logical_axes, roles, split
from arch.probe import depth
from arch.taps import Tap
from train.forward import Params, numbered
from train.optim.schedules import Constant
from train.setup import CompiledRun
from train.step import EVALUATION, State
from train.trees import join
from train.weighing import divisor

SITES = "resid_pre|attn_out|resid_mid|mlp_out|resid_post|attn.pattern"
ROWS = 16
"""Rows of the batch that activations are kept of: all layers of a large batch would not fit a device."""

Values = dict[str, jax.Array]


def depth_panel(
    program: CompiledRun, state: State, batch: Mapping[str, np.ndarray], learning_rate: float | None = None
) -> dict[str, list[float]]:
    """Name -> one number a layer, first layer first.

    Args:
      program: what trained the model; its functions for this panel are compiled once, for all replicas.
      state: of one replica, without a leading axis.
      batch: rows to measure on, as the objective takes them; of them `ROWS` for the activations.
      learning_rate: of the replica; None: the run's.

    Returns:
      residual_rms (of the input), residual_variance (of the output), angular_distance (of the two), attn_, mlp_ and
      block_contribution, attn_ and mlp_cosine, attention_entropy (nats), gradient_norm, layer_drop (loss without the
      layer - loss, nats), and update_to_weight (what the optimiser would add now at its peak learning rate, over the
      weights). Those whose sites the model does not have are left out; all are, for a model without a stack.
    """
    if not {"blocks", "sections"} & set(state["params"].get("stack", {})):
        return {}
    functions = _functions(program)
    few = program.place(_rows(batch, _few(program, batch)), train=False)
    rows = program.place(batch, train=False)
    rate = jnp.float32(program.run.optimizer.learning_rate if learning_rate is None else learning_rate)
    values = {**functions["activations"](state, few), **functions["losses"](state, rows, rate)}
    return {name: [float(x) for x in np.asarray(value)] for name, value in jax.device_get(values).items()}


_latest: list[tuple[CompiledRun, dict[str, Callable[..., Any]]]] = []
"""The functions of the program examined last: its replicas come one after another."""


def _functions(program: CompiledRun) -> dict[str, Callable[..., Any]]:
    if not _latest or _latest[0][0] is not program:
        made: dict[str, Callable[..., Any]] = {
            "activations": jax.jit(functools.partial(_activations, program)),
            "losses": jax.jit(functools.partial(_losses, program)),
        }
        _latest[:] = [(program, made)]
    return _latest[0][1]


def _examine(
    program: CompiledRun, params: Params, state: State, batch: Any, **looks: Any
) -> tuple[jax.Array, Any, Any]:
    """The mean loss of the objective in evaluation, the model's output, and the segments that it read."""
    learner, batch = program.learner, numbered(batch)
    keys = jax.random.key(EVALUATION)
    sums, output = learner.forward(
        learner.cast(params), state["buffers"], batch, None, keys, training=False, **looks
    )  # fmt: skip
    inputs, _ = learner.forward.inputs(learner.cast(params), state["buffers"], batch, keys)
    return sums.loss.total / divisor(sums.loss.weight), output, inputs.segments


def _activations(program: CompiledRun, state: State, batch: Any) -> Values:
    _, output, segments = _examine(program, state["params"], state, batch, tap=Tap(save=SITES))
    taps = output.taps
    before, after = taps["resid_pre"], taps["resid_post"]
    weight = _weight(before.shape[1:-1], batch, segments)
    values = {
        "residual_rms": depth.residual_rms(before, weight),
        "residual_variance": depth.variance(after, weight),
        "angular_distance": depth.angular_distance(before, after, weight),
        "block_contribution": depth.relative_contribution(after - before, before, weight),
    }
    for site, name, stream in [("attn_out", "attn", before), ("mlp_out", "mlp", taps.get("resid_mid", before))]:
        if _of_all_layers(taps.get(site), before) and _of_all_layers(stream, before):
            values[f"{name}_contribution"] = depth.relative_contribution(taps[site], stream, weight)
            values[f"{name}_cosine"] = depth.cosine(taps[site], stream, weight)
    if _of_all_layers(taps.get("attn.pattern"), before):
        values["attention_entropy"] = depth.attention_entropy(taps["attn.pattern"], weight)
    return values


def _losses(program: CompiledRun, state: State, batch: Any, rate: jax.Array) -> Values:
    """What needs the loss of the whole batch: the gradient and update of each layer, and the loss without it."""
    params = state["params"]
    whole, grads = jax.value_and_grad(lambda params: _examine(program, params, state, batch)[0])(params)
    norms = _norms(program, grads)
    masks = ~jnp.eye(norms.shape[0], dtype=bool)
    without = jax.lax.map(lambda gates: _examine(program, params, state, batch, gates=Gates(block=gates))[0], masks)
    trained, frozen = program.learner.split(params)
    updates, _ = _at_peak(program, rate).update(program.learner.split(grads)[0], state["opt_state"], trained)
    updates = join(updates, jax.tree.map(jnp.zeros_like, frozen))
    weights = jnp.maximum(_norms(program, params), depth.SMALLEST)
    return {
        "gradient_norm": norms,
        "layer_drop": without - whole,
        "update_to_weight": _norms(program, updates) / weights,
    }


def _at_peak(program: CompiledRun, rate: jax.Array) -> optax.GradientTransformation:
    """The optimiser of the run without its schedule: at the end of a run the rate is all but zero."""
    run, module = program.run, program.run.abstract_model()
    constant, named = dataclasses.replace(run.optimizer, schedule=Constant()), roles(module)
    axes = logical_axes(module)
    return constant.build(split(module)[1], run.steps, roles=named, axes=axes, learning_rate=rate, seed=run.seed)


def _of_all_layers(value: Any, stream: jax.Array) -> bool:
    """Whether a saved value has one entry for each layer of the stream, all of one shape."""
    return isinstance(value, jax.Array) and value.shape[0] == stream.shape[0]


def _norms(program: CompiledRun, tree: Params) -> jax.Array:
    """[L]: the norm of all parameters of each layer together, in a tree like the parameters."""
    stack = tree["stack"]
    if "blocks" in stack:
        return _norms_of(stack["blocks"])
    spans = program.run.abstract_model().stack.spans
    norms = jnp.zeros(sum(size * repeats for _, size, repeats in spans))
    for loop, (first, size, repeats) in enumerate(spans):
        for place in range(size):
            layers = slice(first + place, first + size * repeats, size)
            norms = norms.at[layers].set(_norms_of(stack["sections"][str(loop)][str(place)]))
    return norms


def _norms_of(blocks: Any) -> jax.Array:
    """The norms of layers that are stacked: a tree of `[L, ...]`."""
    squares = [jnp.sum(jnp.square(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(blocks)]
    return jnp.sqrt(functools.reduce(jnp.add, squares))


def _weight(shape: tuple[int, ...], batch: Mapping[str, jax.Array], segments: jax.Array | None) -> jax.Array:
    """1 for what belongs to the data, 0 for padding and for rows that fill a batch up; `shape` [B, ...]."""
    weight = jnp.ones(shape, jnp.float32)
    if segments is not None and segments.shape == shape:
        weight = weight * (segments > 0).astype(jnp.float32)
    if "weight" in batch:
        weight = weight * batch["weight"].astype(jnp.float32).reshape(-1, *(1,) * (len(shape) - 1))
    return weight


def _few(program: CompiledRun, batch: Mapping[str, np.ndarray]) -> int:
    """About `ROWS` of this process's rows, dealt out evenly to its devices."""
    devices = max(1, program.mesh.size // jax.process_count())
    rows = len(next(iter(batch.values())))
    return min(rows, -(-ROWS // devices) * devices)


def _rows(batch: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: array[:count] for name, array in batch.items()}

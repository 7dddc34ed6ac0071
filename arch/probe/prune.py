"""Cutting layers out of a model: a shallower model in which every layer that stays keeps its index.

The factor of LayerNorm Scaling, the kind of a Mix-LN layer and the weights of DeepNorm depend on a layer's index and
on L. Renumbering the layers would change the function; here both stay those of the whole model
(`stacks.LayerSubset`), so that the pruned model equals the whole one with the gates of the other layers closed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from arch.spec import UserError
from arch.stacks.base import LayerSubset, Pattern


def prune(model: Any, params: dict[str, Any], layers: Sequence[int]) -> tuple[Any, dict[str, Any]]:
    """The spec and the parameters of `model` with only `layers`, 0-based, in the order given.

    Args:
      model: a model spec with the fields `depth` and `stack`, a `Sequential` of one block without bottlenecks; it may
        be pruned already, and `layers` then counts those it has.
      params: its parameters as a nested dict, `stack.blocks.*` with a leading axis of layers.

    Raises:
      ValueError: a layer that the model does not have, or none at all.
      UserError: a pattern of blocks, or bottlenecks between them.
    """
    if isinstance(model.block, Pattern) or model.stack.between:
        raise UserError(f"cannot cut layers out of {type(model).__name__}: its stack is a pattern or has bottlenecks; "
                        "close their gates instead, Gates(block=...)")  # fmt: skip
    missing = [layer for layer in layers if not 0 <= layer < model.depth]
    if missing or not layers:
        raise ValueError(f"layers {tuple(layers)}: must be some of the {model.depth} layers 0 to {model.depth - 1}")
    before = model.stack.kept or LayerSubset(tuple(range(model.depth)), model.depth)
    kept = LayerSubset(tuple(before.indices[layer] for layer in layers), before.of)
    pruned = dataclasses.replace(model, depth=len(layers), stack=dataclasses.replace(model.stack, kept=kept))
    blocks = jax.tree.map(lambda leaf: leaf[jnp.asarray(layers)], params["stack"]["blocks"])
    return pruned, {**params, "stack": {**params["stack"], "blocks": blocks}}

"""Codes from data: the codebooks of a model made of the vectors that they will be given (`Quantizer.fitted`).

seen = model(inputs, tap=Opening()).statistics        # every bottleneck open: the vectors of the model without them
found = codes_of(model, seen, key)                    # path of an array -> array
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from arch.bottlenecks.base import Quantizer
from arch.buffers import part_at, stacked
from arch.params import merge, split


def codes_of(
    network: nnx.Module, seen: Mapping[str, Any], key: jax.Array, steps: int = 10
) -> dict[str, dict[str, jax.Array]]:
    """ "params" and "buffers" -> path in `network` -> what its quantisers make of the vectors they have seen.

    Args:
      network: the model.
      seen: path of a quantiser -> (vectors [*layers, M, ..., N], weights [*layers, M, ...]).
      key: of what is random; each path, layer, head and group has its own of it.
      steps: of k-means.
    """
    found: dict[str, dict[str, jax.Array]] = {"params": {}, "buffers": {}}
    for number, (path, told) in enumerate(sorted(seen.items())):
        part = part_at(network, path)
        if not isinstance(part, Quantizer):
            continue
        for kind, tree in jax.jit(_of(part, steps))(*split(part)[1:], *told, jax.random.fold_in(key, number)).items():
            for at, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
                found[kind][".".join([path, jax.tree_util.keystr(at, simple=True, separator=".")])] = leaf
    return found


def _of(part: Quantizer, steps: int) -> Any:
    """`fn(params, buffers, x, weights, key)` of a part, one layer after another."""
    graphdef, *_ = split(part)

    def one(params: Any, buffers: Any, x: jax.Array, weights: jax.Array, key: jax.Array) -> Any:
        return merge(graphdef, params, buffers).fitted(x.astype(jnp.float32), weights, key, steps)

    if not stacked(part):
        return one

    def layers(params: Any, buffers: Any, x: jax.Array, weights: jax.Array, key: jax.Array) -> Any:
        return jax.lax.map(lambda told: one(*told), (params, buffers, x, weights, jax.random.split(key, len(x))))

    return layers

"""Caches of a stack with the layers apart: the form in which decoding on a CPU changes them in place.

A loop over layers takes each layer's weights and cache out of stacked arrays and puts the cache into a new one: a copy
of all of them for every token, where the product of one row with a matrix costs no more than reading the matrix once.
Here the layers are unrolled instead, whatever the loop of the stack, and each cache is an array of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from arch.stacks.base import unstack

FEW = 16
"""Tokens of a row, at most, for which layers are unrolled; a prompt is read by the loop of the stack."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Apart:
    """The caches of layers that are one after another, each a tree of [1, B, ...]: stacked arrays of one layer."""

    layers: tuple[Any, ...]

    @classmethod
    def of(cls, stacked: Any) -> Apart:
        """From arrays of [L, B, ...]."""
        depth = jax.tree.leaves(stacked)[0].shape[0]
        return cls(tuple(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], stacked) for i in range(depth)))

    def stacked(self) -> Any:
        """As arrays of [L, B, ...]."""
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *self.layers)


def turns(
    body: Callable[..., tuple[jax.Array, Any]],
    x: jax.Array,
    numbers: Sequence[Any],
    each: Sequence[tuple[Any, ...]],
    caches: Sequence[Apart],
) -> tuple[jax.Array, list[Any]]:
    """As `base.turn` for the period of a pattern, unrolled: of each place, the caches stay apart.

    Args:
      body: (stream, (numbers, inputs of each place)) -> (stream, (cache, answer, taps) of each place).
      each: of each place, (variables, keys, gates) with an entry a turn.
      caches: of each place.
    """
    outputs: list[list[Any]] = []
    after: list[list[Any]] = [[] for _ in caches]
    for repeat, (number, inputs) in enumerate(zip(numbers, unstack(tuple(each), len(numbers)), strict=True)):
        held = [jax.tree.map(lambda leaf: leaf[0], cache.layers[repeat]) for cache in caches]
        x, found = body(x, (number, [(*one, cache) for one, cache in zip(inputs, held, strict=True)]))
        for place, (cache, _, _) in enumerate(found):
            after[place].append(jax.tree.map(lambda leaf: leaf[None], cache))
        outputs.append([rest for _, *rest in found])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
    return x, [(Apart(tuple(caches)), *rest) for caches, rest in zip(after, stacked, strict=True)]

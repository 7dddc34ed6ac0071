"""The layers of a trunk and its arrays by layer, for every kind of stack that has a twin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from arch.blocks.base import Block
from arch.hf.family import UnfitError
from arch.hf.weights import Weight, Weights, blocks, opened
from arch.models.base import Model
from arch.models.trunk import Trunk
from arch.params import Tree
from arch.stacks.parallel import Grouped, ParallelStack
from arch.stacks.sequential import Sequential

SIDE_BY_SIDE = (ParallelStack, Grouped)


def layers_of(trunk: Trunk) -> list[tuple[int, int, Block]]:
    """Of each layer: the depth that it counts by, from 0, the L that it counts in, and its block.

    Raises UnfitError for a stack without a twin.
    """
    stack: Any = trunk.stack
    if type(stack) is Sequential:
        return list(blocks(trunk))
    if type(stack) not in SIDE_BY_SIDE or not isinstance(trunk.block, Block):
        raise UnfitError(f"stack={type(stack).__name__} has no twin in PyTorch; Sequential and ParallelStack have")
    size = trunk.depth // stack.count(trunk.depth)
    return [(layer // size, trunk.depth, trunk.block) for layer in range(trunk.depth)]


STATISTICS = ("counts", "spread")
"""Buffers of bottlenecks that their function does not depend on."""


def laid_open(model: Model, params: Tree) -> Weights:
    """Path by layer -> the array of `params`, which may hold the buffers too: a view where that is float32 of numpy."""
    stacked = isinstance(model, Trunk) and type(model.stack) is not Sequential
    found = _side_by_side(params) if stacked else opened(model, params)
    found = {path: weight for path, weight in found.items() if path.rpartition(".")[2] not in STATISTICS}
    laid: Weights = {}
    for path, weight in found.items():  # quantisers side by side have a leading axis of them
        laid.update(_each(path, weight))
    return laid


def _each(path: str, weight: Weight) -> Iterator[tuple[str, Weight]]:
    """One array for each quantiser, of those in others too."""
    above, each, below = path.partition(".each.")
    if not each:
        yield path, weight
        return
    for row, one in _rows(weight.value()):
        yield from ((f"{above}.each.{row}{rest}", inner) for rest, inner in _each(f".{below}", Weight(one)))


def _rows(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Number and view of each row, also where it is one number."""
    return ((row, array[row, ...]) for row in range(len(array)))


def _side_by_side(params: Tree) -> Weights:
    """Of a parallel stack: its blocks and the norms of its groups."""
    found: Weights = {}
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    for keys, leaf in leaves:
        path, array = ".".join(str(key.key) for key in keys), np.asarray(leaf)
        for start, name in (("stack.blocks.", "layers"), ("stack.norm.", "stack.norm")):
            if path.startswith(start):
                found |= {f"{name}.{row}.{path[len(start) :]}": Weight(one) for row, one in _rows(array)}
                break
        else:
            found[path] = Weight(array)
    return found

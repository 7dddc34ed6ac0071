"""The parameters of a model by layer: `stack.blocks.mixer.q.kernel` [L, ...] is `layers.0.mixer.q.kernel`, and so on.

A layer has the same paths whether its stack is one scanned loop, a pattern in sections, or a list. Nothing is copied:
the array of a layer is a view.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arch import cost
from arch.blocks.base import Block
from arch.models.base import Model
from arch.models.encoder_decoder import EncoderDecoder
from arch.models.trunk import Trunk
from arch.params import Tree, metadata, nest
from arch.spec import UserError
from arch.stacks.base import Pattern
from arch.stacks.patterns import sections
from arch.stacks.sequential import Sequential


@dataclasses.dataclass(frozen=True)
class Weight:
    """An array, and what it is multiplied by when it is written.

    Attributes:
      array: of any floating type.
      factors: numbers, or arrays that broadcast against it.
    """

    array: np.ndarray
    factors: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def times(self, factor: Any) -> Weight:
        """With one more factor."""
        return dataclasses.replace(self, factors=(*self.factors, factor))

    def value(self) -> np.ndarray:
        """The product in float32, taken in float64 and rounded once."""
        if not self.factors:
            return np.asarray(self.array, np.float32)
        product = self.array.astype(np.float64)
        for factor in self.factors:
            product = product * np.asarray(factor, np.float64)
        return product.astype(np.float32)


Weights = dict[str, Weight]
Shapes = dict[str, tuple[int, ...]]


def trunks(model: Model) -> dict[str, Trunk]:
    """What the paths of each half begin with -> the half; "" for a model of one. Raises UserError for others."""
    if isinstance(model, EncoderDecoder):
        return {"encoder.": model.encoder, "decoder.": model.decoder}
    if isinstance(model, Trunk):
        return {"": model}
    raise UserError(f"{type(model).__name__} has no layers to lay open; a Decoder, Encoder or EncoderDecoder has")


def blocks(trunk: Trunk) -> tuple[tuple[int, int, Block], ...]:
    """Of each layer: its index, the L that it counts in, and its block. Raises UserError for stacks of another kind."""
    stack = trunk.stack
    if type(stack) is not Sequential:
        raise UserError(f"stack={type(stack).__name__}: its layers are not one after another, as in Sequential")
    kept = tuple(range(trunk.depth)) if stack.kept is None else stack.kept.indices
    total = trunk.depth if stack.kept is None else stack.kept.of
    of_all = trunk.block.layers(total) if isinstance(trunk.block, Pattern) else (trunk.block,) * total
    return tuple((index, total, of_all[index]) for index in kept)


def places(trunk: Trunk) -> list[tuple[str, int]]:
    """Of each layer: the path that its parameters are below, and where it stands on their leading axis."""
    laid = [block for _, _, block in blocks(trunk)]
    found = sections(laid, [after for after, _ in trunk.stack.between])  # type: ignore[attr-defined]
    if len(found) == 1 and len(found[0].period) == 1:
        return [("stack.blocks", layer) for layer in range(len(laid))]
    where: dict[int, tuple[str, int]] = {}
    for number, section in enumerate(found):
        for place in range(len(section.period)):
            for turn, layer in enumerate(section.layers(place)):
                where[layer] = (f"stack.sections.{number}.{place}", turn)
    return [where[layer] for layer in range(len(laid))]


def opened(model: Model, params: Tree) -> Weights:
    """Path by layer -> the array of `params`, a view also where it is one number."""
    flat = {path: np.asarray(leaf) for path, leaf in _flat(params).items()}
    found: Weights = {}
    for prefix, trunk in trunks(model).items():
        for layer, (above, turn) in enumerate(places(trunk)):
            start = f"{prefix}{above}."
            for path in [path for path in flat if path.startswith(start)]:
                found[f"{prefix}layers.{layer}.{path[len(start) :]}"] = Weight(flat[path][turn, ...])
        stacked = (f"{prefix}stack.blocks.", f"{prefix}stack.sections.")
        flat = {path: leaf for path, leaf in flat.items() if not path.startswith(stacked)}
    return {**{path: Weight(leaf) for path, leaf in flat.items()}, **found}


def closed(model: Model, arrays: Mapping[str, np.ndarray]) -> Tree:
    """The parameters of `model` from arrays by layer. Raises KeyError for one that is missing."""
    flat: dict[str, np.ndarray] = {}
    for path, rows in _sources(model).items():
        flat[path] = arrays[rows[0]] if rows == [path] else np.stack([arrays[row] for row in rows])
    return nest(flat)


def shapes(model: Model) -> Shapes:
    """Path by layer -> shape."""
    table = _table(model)
    found: Shapes = {}
    for path, rows in _sources(model).items():
        shape = tuple(table[path]["shape"])
        found |= {row: shape if rows == [path] else shape[1:] for row in rows}
    return found


def _sources(model: Model) -> dict[str, list[str]]:
    """Path of each parameter -> the paths by layer that it is stacked of; itself if it is no layer's."""
    paths = list(_table(model))
    found = {path: [path] for path in paths}
    for prefix, trunk in trunks(model).items():
        rows: dict[str, list[str]] = {}
        for layer, (above, _) in enumerate(places(trunk)):  # ascending, as the turns of each place are
            start = f"{prefix}{above}."
            for path in paths:
                if path.startswith(start):
                    rows.setdefault(path, []).append(f"{prefix}layers.{layer}.{path[len(start) :]}")
        found |= rows
    return found


@functools.lru_cache(maxsize=8)
def _table(model: Model) -> dict[str, Any]:
    """What is known of each parameter; a model is traced for it."""
    return metadata(cost.abstract(model))


def _flat(params: Tree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}

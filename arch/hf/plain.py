"""A model in its plainest form: canonical, with all that `fold` knows folded into the arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

from arch.hf import canonical, fold
from arch.hf.weights import Weights, blocks, opened, trunks
from arch.layers.embeddings import Tied
from arch.layers.heads.prediction import PredictionHead
from arch.layers.heads.scaled import ScaledTied
from arch.models.base import Model
from arch.models.encoder_decoder import EncoderDecoder
from arch.params import Tree
from arch.stacks.patterns import Listed
from arch.stacks.sequential import Sequential

EMBEDDING, HEAD, ATTENTION = "embedding.scale", "head.scale", "attention.scale"
"""Constants that some families have a field for: these are not folded for them."""


@dataclasses.dataclass(frozen=True)
class Plain:
    """A model laid open.

    Attributes:
      model: canonical; its blocks are those that are left after folding.
      weights: by layer, with their factors.
      folded: what was folded, in words; empty: nothing.
    """

    model: Model
    weights: Weights
    folded: tuple[str, ...]


def plain(model: Model, params: Tree, native: frozenset[str] = frozenset()) -> Plain:
    """The plainest form of `model`; constants in `native` stay.

    Raises:
      UserError: a model without layers to lay open.
    """
    weights, told = opened(model, params), dict[str, None]()
    halves = {}
    for at, trunk in trunks(model).items():
        laid = tuple(_folded(block, index, total, f"{at}layers.{place}.", weights, told)
                     for place, (index, total, block) in enumerate(blocks(trunk)))  # fmt: skip
        between = trunk.stack.between  # type: ignore[attr-defined]
        stack = Sequential(between=between)
        halves[at] = dataclasses.replace(trunk, block=Listed(laid), stack=stack)
    found = canonical.canonical(_whole(model, halves))
    if ATTENTION not in native:
        halves = {at: _attention(half, at, weights, told) for at, half in trunks(found).items()}
        found = _whole(found, halves)
    found = _outside(found, weights, native, told)
    return Plain(found, weights, tuple(told))


def _whole(model: Any, halves: dict[str, Any]) -> Any:
    if isinstance(model, EncoderDecoder):
        return dataclasses.replace(model, encoder=halves["encoder."], decoder=halves["decoder."])
    return halves[""]


def _folded(block: Any, index: int, total: int, at: str, weights: Weights, told: dict[str, None]) -> Any:
    layer = fold.Layer(block, index, total, at, weights, told)
    for rule in fold.RULES:
        rule(layer)
    return layer.block


def _attention(trunk: Any, at: str, weights: Weights, told: dict[str, None]) -> Any:
    laid = []
    for place, block in enumerate(trunk.block.each):
        layer = fold.Layer(block, place, trunk.depth, f"{at}layers.{place}.", weights, told)
        fold.attention_scale(layer)
        laid.append(layer.block)
    return dataclasses.replace(trunk, block=Listed(tuple(laid)))


def _outside(model: Any, weights: Weights, native: frozenset[str], told: dict[str, None]) -> Any:
    """The constants of embedding and head."""
    last = "decoder." if isinstance(model, EncoderDecoder) else ""
    before = f"{last}norm"
    if type(model.head) is ScaledTied and HEAD not in native and trunks(model)[last].norm is not None:
        for path in [path for path in weights if path.startswith(f"{before}.")]:
            weights[path] = weights[path].times(model.head.scale)
        model = dataclasses.replace(model, head=Tied(softcap=model.head.softcap))
        told["the scale of the head into the norm before it"] = None
    if EMBEDDING in native:
        return model
    if isinstance(model, EncoderDecoder):
        return model  # two halves may share the table
    named: dict[type, str] = {Tied: before, ScaledTied: before, PredictionHead: "head.norm"}
    reads = named.get(type(model.head))
    new, done = fold.embedding_scale(model, weights, "", reads)
    if done:
        told["the scale of the embedding into its table"] = None
    return new

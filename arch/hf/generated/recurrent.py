"""The halves of a recurrent translator: what their twins are told, and their arrays by layer.

Layer 0 is `first`, another kind than those above it, which lie in sections of layers that read the same widths.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np

from arch.hf.family import UnfitError
from arch.hf.generated.twin import Fields
from arch.hf.weights import Weight, Weights
from arch.layers.embeddings import Embedding
from arch.models.gnmt import GNMT
from arch.models.recurrent import Recurrences, RecurrentDecoder, RecurrentEncoder
from arch.params import Tree


def translator(spec: GNMT, teller: Any, at: str) -> Fields:
    """Nothing of its own. Raises UnfitError for a decoder that begins in the states of its encoder."""
    if spec.compat != "paper":
        raise UnfitError(f"GNMT.compat={spec.compat} has no twin in PyTorch; paper has")
    return {}


def told_half(spec: Recurrences, parts: Fields) -> dict[str, Any]:
    """The configuration of a half without a head."""
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.depth,
        "head_dim": spec.width,
        "intermediate_size": spec.width,
        "layer_types": ["full_attention"] * spec.depth,
        "depths": list(range(spec.depth)),
        "parts": parts,
    }


def encoder(spec: RecurrentEncoder, teller: Any, at: str) -> Fields:
    cell = teller.tell(spec.cell, rf"{at}.layers.*cell")
    first = {"cell": cell, "both": spec.first == "bidirectional"}
    return _half(spec, [one["x"] for one in spec.reads], teller, at) | {"cell": cell, "first": first, "memory": None}


def decoder(spec: RecurrentDecoder, teller: Any, at: str) -> Fields:
    cell = teller.tell(spec.cell, rf"{at}.layers.*cell")
    attention = teller.tell(spec.attention, f"{at}.layers.0.attention")
    first = {"cell": cell, "attention": attention, "compat": spec.compat}
    found = _half(spec, [spec.width] * (spec.depth - 1), teller, at)
    return found | {"cell": cell, "first": first, "memory": teller.memory}


def _half(spec: Recurrences, inputs: list[int], teller: Any, at: str) -> Fields:
    table = Embedding() if spec.embedding is None else spec.embedding
    scaled = type(table) is not Embedding or table.scale is not None
    begins = spec.residual_from
    return {
        "embedding": teller.tell(table, f"{at}.embedding") if scaled else None,
        "inputs": inputs,
        "residual": [
            begins is not None and layer >= begins and width == spec.width for layer, width in enumerate(inputs, 2)
        ],
    }


def laid_open(model: GNMT, params: Tree) -> Weights:
    """Path by layer -> the array of `params`, which may hold the buffers too: a view."""
    spans = {
        f"{half}.layers.sections.": list(_spans(inputs))
        for half, inputs in (
            ("encoder", [one["x"] for one in model.encoder.reads]),
            ("decoder", [model.decoder.width] * (model.decoder.depth - 1)),
        )
    }
    found: Weights = {}
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    for keys, leaf in leaves:
        path, array = ".".join(str(key.key) for key in keys), np.asarray(leaf)
        half, _, below = path.partition(".")
        start = f"{half}.layers.sections."
        if path.startswith(start):
            number, _, below = path[len(start) :].partition(".")
            first = spans[start][int(number)]
            found |= {f"{half}.layers.{first + row}.{below}": Weight(array[row, ...]) for row in range(len(array))}
        elif below.startswith("first."):
            found[f"{half}.layers.0.{below.removeprefix('first.')}"] = Weight(array)
        else:
            found[path] = Weight(array)
    return found


def _spans(inputs: list[int]) -> Any:
    """The first layer of each section."""
    first = 1
    for _, group in itertools.groupby(inputs):
        yield first
        first += len(list(group))

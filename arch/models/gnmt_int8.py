"""A trained GNMT for inference in 8 and 16 bits (arXiv 1609.08144, sec. 6).

The weights of all LSTMs and of an untied head become int8; attention, softmax and embeddings stay float. Everything
that calls a GNMT calls this one: it is the same network with other cells.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from arch.cost import abstract
from arch.layers.embeddings import Untied, UntiedLayer
from arch.layers.heads.clipped import ClippedHead
from arch.layers.linear import Dense
from arch.layers.recurrent.int8 import Int8Head, quantize_rows
from arch.layers.recurrent.int8_lstm import Int8LSTMCell, int8_cell
from arch.layers.recurrent.lstm_cell import LSTMCell, LSTMCellLayer
from arch.models.base import context
from arch.models.gnmt import GNMT, GNMTNetwork
from arch.params import merge, split
from arch.spec import Problem, SpecError


def quantized(spec: GNMT, network: GNMTNetwork, delta: float | None = None) -> GNMTNetwork:
    """The network of `spec` with integer arithmetic.

    Args:
      spec: what `network` was built from.
      network: with trained parameters.
      delta: the bound on states; None: that which each cell was trained with.

    Raises:
      SpecError: cells that are not `LSTMCell`s of dense maps, or that were trained without a bound where none is given.
    """
    for half in ("encoder", "decoder"):
        cell = getattr(spec, half).cell
        if not isinstance(cell, LSTMCell) or type(cell.linear) is not Dense or cell.linear.bias:
            raise SpecError(
                spec, [Problem(f"{half}.cell", cell, "must be an LSTMCell(linear=Dense()) to be quantised")]
            )
        if delta is None and cell.clip is None:
            raise SpecError(spec, [Problem(f"{half}.cell.clip", None, "must be a Clip, or give delta=...")])
    small = int8_spec(spec)
    _, params, buffers = split(network)
    for path, part in nnx.iter_graph(network):
        if isinstance(part, LSTMCellLayer):
            layers = part.bias[...].shape[:-2]
            known = part.delta(context()) if delta is None else None
            bound = jnp.broadcast_to(jnp.asarray(delta, jnp.float32) if known is None else known, layers)
            params = _with(params, path, None)
            buffers = _with(buffers, path, int8_cell(part, bound, len(layers)))
        elif isinstance(part, UntiedLayer) and small.head != spec.head:
            values, scales = quantize_rows(part.kernel[...])
            params, buffers = _with(params, path, None), _with(buffers, path, {"kernel": values, "scale": scales})
    return merge(split(abstract(small))[0], params, buffers)


def int8_spec(spec: GNMT) -> GNMT:
    """The spec of the quantised network, whose arrays are yet to be filled in."""
    head: Any = spec.head
    if isinstance(head, ClippedHead) and isinstance(head.head, Untied):
        head = dataclasses.replace(head, head=Int8Head(head.head.softcap))
    elif isinstance(head, Untied):
        head = Int8Head(head.softcap)
    encoder = dataclasses.replace(spec.encoder, cell=Int8LSTMCell())
    decoder = dataclasses.replace(spec.decoder, cell=Int8LSTMCell())
    return dataclasses.replace(spec, encoder=encoder, decoder=decoder, head=head)


def _with(tree: Any, path: Any, new: Any) -> Any:
    """`tree` with `new` at `path`; None: without what was there."""
    first, *rest = path
    if rest:
        below = _with(tree.get(first, {}), rest, new)
        return {**tree, first: below} if below else {key: value for key, value in tree.items() if key != first}
    kept = {key: value for key, value in tree.items() if key != first}
    return kept if new is None else {**kept, first: new}

"""The LSTM cell for inference with small integers (arXiv 1609.08144, sec. 6): weights of 8 bits, states of 16.

c and h are int16 over [-delta, delta]: n stands for n delta / 32767. Gates are int16 over [-1, 1]. Products of two of
them are int32, and rounded to 16 bits. The scales of the rows of weights are float, so that what goes into a gate is,
and sigmoid and tanh are those of float, rounded to 16 bits as a table of them would be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arch.layers.recurrent.int8 import Rows, product, quantize_rows, row_buffers
from arch.layers.recurrent.lstm_cell import GATES, Cell, CellLayer, LSTMCellLayer, State
from arch.layers.shapes import align
from arch.params import ParamFactory

ONE = 32767
"""What stands for 1, or for delta."""


@dataclasses.dataclass(frozen=True)
class Int8LSTMCell(Cell):
    """The cell. Its weights and delta are buffers, which `quantized` fills: it has nothing to be trained."""

    def build(self, reads, hidden, make):
        return Int8LSTMCellLayer(reads, hidden, make)


class Int8LSTMCellLayer(CellLayer):
    def __init__(self, reads: Mapping[str, int], hidden: int, make: ParamFactory):
        self.hidden = hidden
        self.first = next(iter(reads))
        outputs = [GATES, (hidden, "mlp")]
        for name, width in {**reads, "h": hidden}.items():
            values, scales = row_buffers(make, name, [(width, "embed" if name != "h" else None)], outputs)
            setattr(self, name, values)
            setattr(self, f"{name}_scale", scales)
        self.bias = make.buffer(outputs, 0.0)
        self.bound = make.buffer([], 1.0)

    def delta(self, ctx):
        return self.bound[...]

    def product(self, name, x):
        gates = product(x, Rows(getattr(self, name)[...], getattr(self, f"{name}_scale")[...]))
        return gates + align(self.bias[...], gates) if name == self.first else gates

    def empty(self, batch, dtype):
        nothing = jnp.zeros((batch, self.hidden), jnp.int16)
        return State(nothing, nothing)

    def step(self, gates_BGH, state, delta):
        i, f, o, g = jnp.moveaxis(gates_BGH + self.product("h", state.h.astype(jnp.float32)) * (delta / ONE), 1, 0)
        i, f, o = (_bits16(jax.nn.sigmoid(gate)) for gate in (i, f, o))
        c = _times(f, state.c, 1.0) + _times(i, _bits16(jnp.tanh(g)), delta)
        c = jnp.clip(c, -ONE, ONE).astype(jnp.int16)
        m = _times(o, _bits16(jnp.tanh(c.astype(jnp.float32) * (delta / ONE))), delta)
        return State(jnp.clip(m, -ONE, ONE).astype(jnp.int16), c)

    def output(self, h, delta, dtype):
        return (h.astype(jnp.float32) * (self.bound[...] / ONE)).astype(dtype)


def _bits16(x: jax.Array) -> jax.Array:
    """A number from [-1, 1] as int16."""
    return jnp.round(x * ONE).astype(jnp.int16)


def _times(a: jax.Array, b: jax.Array, delta: jax.Array | float) -> jax.Array:
    """The product of two int16 over [-1, 1], or of one over [-1, 1] and one over [-delta, delta] where `delta` is 1, as
    int32 in units of delta / 32767."""
    return jnp.round((a.astype(jnp.int32) * b.astype(jnp.int32)).astype(jnp.float32) / (ONE * delta)).astype(jnp.int32)


def int8_cell(cell: LSTMCellLayer, delta: jax.Array, stacked: int = 0) -> dict[str, Any]:
    """The buffers of an `Int8LSTMCellLayer` that does what `cell` does; both have `stacked` leading axes of layers."""
    buffers: dict[str, Any] = {"bias": cell.bias[...], "bound": delta}
    rows: Any = quantize_rows
    for _ in range(stacked):
        rows = jax.vmap(rows)
    for name in ("x", "context", "h"):
        if hasattr(cell, name):
            buffers[name], buffers[f"{name}_scale"] = rows(getattr(cell, name).kernel[...])
    return buffers

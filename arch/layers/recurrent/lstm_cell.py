"""The LSTM cell (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), one step of it.

i, f, o, g = W x_t + U h_{t-1} + b;  c_t = clip(sigmoid(f) c_{t-1} + sigmoid(i) tanh(g));  h_t = sigmoid(o) tanh(c_t)

W x_t + b of all tokens is one product, made before the recurrence. c is float32 whatever the type of the computation.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.linear import Dense, Linear
from arch.layers.recurrent.clip import Clip, clipped
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Spec

GATES = (4, None)


class State(NamedTuple):
    """h and c [B, H] after the last token, in the cell's own types."""

    h: jax.Array
    c: jax.Array


@dataclasses.dataclass(frozen=True)
class Cell(Spec, abc.ABC):
    """One step of a recurrence."""

    @abc.abstractmethod
    def build(self, reads: Mapping[str, int], hidden: int, make: ParamFactory) -> CellLayer:
        """A cell of H = `hidden` units that reads vectors of these widths, by name; the first has the bias."""


class CellLayer(nnx.Module, abc.ABC):
    """What recurrences call."""

    hidden: int

    @abc.abstractmethod
    def product(self, name: str, x: Float[Array, "*B I"]) -> Float[Array, "*B 4 H"]:
        """What the input called `name` adds to the gates."""

    @abc.abstractmethod
    def delta(self, ctx: Context) -> jax.Array | None:
        """The bound on c and on what the layer writes; None: there is none. Called once in each call of the model."""

    @abc.abstractmethod
    def empty(self, batch: int, dtype: Any) -> State:
        """The state before the first token."""

    @abc.abstractmethod
    def step(self, gates_BGH: Float[Array, "B 4 H"], state: State, delta: jax.Array | None) -> State:
        """The state after a token whose inputs add `gates`."""

    def output(self, h: jax.Array, delta: jax.Array | None, dtype: Any) -> jax.Array:
        """What other parts read of `State.h`, in `dtype`."""
        return h.astype(dtype)


@dataclasses.dataclass(frozen=True)
class LSTMCell(Cell):
    """The cell in floating point.

    Attributes:
      forget: where the forget gate's bias starts.
      clip: the bound on c; None: there is none.
      linear: how its maps are parameterised.
    """

    forget: float = 1.0
    clip: Clip | None = None
    linear: Linear = Dense()

    def build(self, reads, hidden, make):
        return LSTMCellLayer(self, reads, hidden, make)


class LSTMCellLayer(CellLayer):
    def __init__(self, spec: LSTMCell, reads: Mapping[str, int], hidden: int, make: ParamFactory):
        self.hidden = hidden
        self.first = next(iter(reads))
        units = (hidden, "mlp")
        for name, width in reads.items():
            setattr(self, name, spec.linear.build([(width, "embed")], [GATES, units], make, name=name))
        self.h = spec.linear.build([(hidden, None)], [GATES, units], make, name="h")
        start = jnp.zeros((4, hidden)).at[1].set(spec.forget)
        self.bias = make.array([GATES, units], start, f"0, forget {spec.forget:g}")
        if spec.clip is not None:
            self.clip = spec.clip.build(make.at("clip"))

    def delta(self, ctx):
        return self.clip(ctx) if hasattr(self, "clip") else None

    def product(self, name, x):
        gates = getattr(self, name)(x)
        return gates + align(self.bias[...], gates) if name == self.first else gates

    def empty(self, batch, dtype):
        return State(jnp.zeros((batch, self.hidden), dtype), jnp.zeros((batch, self.hidden), jnp.float32))

    def step(self, gates_BGH, state, delta):
        i, f, o, g = jnp.moveaxis((gates_BGH + self.h(state.h)).astype(jnp.float32), 1, 0)
        c = clipped(jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g), delta)
        return State((jax.nn.sigmoid(o) * jnp.tanh(c)).astype(state.h.dtype), c)

"""An LSTM in place of attention (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

i, f, o, g = W x_t + U h_{t-1} + b;  c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);  h_t = sigmoid(o) tanh(c_t)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from arch.context import Context, Result
from arch.layers.caches import Recurrent, Room
from arch.layers.linear import Dense, Linear
from arch.layers.shapes import align
from arch.layers.sublayer import Mixer
from arch.params import Maker
from arch.spec import Problem, at_least


class State(NamedTuple):
    """h and c [B, H], and the document [B] that they are of; 0: none."""

    h: jax.Array
    c: jax.Array
    document: jax.Array


@dataclasses.dataclass(frozen=True)
class LSTM(Mixer):
    """`hidden` is H; None: the width. `forget`: where the forget gate's bias starts."""

    hidden: int | None = None
    forget: float = 1.0
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "hidden")

    @property
    def causal(self):
        return True

    def build(self, width, make):
        return LSTMLayer(self, width, make)


class LSTMLayer(nnx.Module):
    def __init__(self, spec: LSTM, width: int, make: Maker):
        self.hidden = spec.hidden or width
        hidden, gates = (self.hidden, "mlp"), (4, None)
        self.x = spec.linear.build([(width, "embed")], [gates, hidden], make, name="x")
        self.h = spec.linear.build([(self.hidden, None)], [gates, hidden], make, name="h")
        self.o = spec.linear.build([hidden], [(width, "embed")], make, name="o", role="residual")
        start = jnp.zeros((4, self.hidden)).at[1].set(spec.forget)
        self.bias = make.array([gates, hidden], start, f"0, forget {spec.forget:g}")

    def empty(self, batch: int, dtype: jax.typing.DTypeLike) -> State:
        """The state before the first token."""
        nothing = jnp.zeros((batch, self.hidden), dtype)
        return State(nothing, nothing, jnp.zeros((batch,), jnp.int32))

    def init_cache(self, room: Room) -> Recurrent:
        return Recurrent.empty(self.empty(room.batch, room.dtype), room)

    def __call__(self, x_BTD: jax.Array, ctx: Context) -> Result:
        (B, T), dtype = x_BTD.shape[:2], x_BTD.dtype
        segments = jnp.ones((B, T), jnp.int32) if ctx.segments is None else ctx.segments
        gates = self.x(x_BTD)
        gates = gates + align(self.bias[...], gates)

        def step(state: State, token: tuple[jax.Array, jax.Array]) -> tuple[State, State]:
            gates, document = token
            same = (document == state.document)[:, None].astype(dtype)
            h, c = state.h.astype(dtype) * same, state.c.astype(dtype) * same
            i, f, o, g = jnp.moveaxis(gates + self.h(h), 1, 0)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            new = State(jax.nn.sigmoid(o) * jnp.tanh(c), c, document)
            return new, new

        start = self.empty(B, dtype) if ctx.cache is None else ctx.cache.state
        _, states = jax.lax.scan(step, start, (jnp.moveaxis(gates, 1, 0), segments.T))
        states = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), states)
        cache = None if ctx.cache is None else ctx.cache.after(states, ctx.index)
        return Result(self.o(ctx.tap("lstm.h", states.h)), cache)

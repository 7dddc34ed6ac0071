"""LSTMs as mixers: in place of attention in any block, forward or in both directions.

The recurrence (`recurrence.py`) is one scan; what goes in and comes out are products over all tokens at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.caches import Recurrent, Room
from arch.layers.linear import Dense, Linear
from arch.layers.recurrent.lstm_cell import Cell, LSTMCell
from arch.layers.recurrent.recurrence import Recurrence
from arch.layers.sublayer import Mixer
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class LSTM(Mixer):
    """An LSTM and a map of its output to the width.

    Attributes:
      hidden: H; None: the width.
      cell: the cell, with its clip hook.
      linear: how the map of the output is parameterised.
    """

    hidden: int | None = None
    cell: Cell = LSTMCell()
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "hidden")

    @property
    def causal(self):
        return True

    def build(self, width, make):
        return LSTMLayer(self, width, make)


class LSTMLayer(nnx.Module):
    def __init__(self, spec: LSTM, width: int, make: ParamFactory):
        hidden = spec.hidden or width
        self.forward = Recurrence(spec.cell, {"x": width}, hidden, make)
        self.o = spec.linear.build([(hidden, "mlp")], [(width, "embed")], make, name="o", role="residual")

    def init_cache(self, room: Room) -> Recurrent:
        return self.forward.init_cache(room)

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        h_BTH, cache = self.forward(ctx, {"x": x_BTD})
        return Result(self.o(h_BTH), cache)


@dataclasses.dataclass(frozen=True)
class BidirectionalLSTM(LSTM):
    """Two LSTMs (Schuster and Paliwal 1997), one of them from the end of each document, their outputs concatenated and
    mapped to the width. `hidden` is H of each; None: the width."""

    @property
    def causal(self):
        return False

    def build(self, width, make):
        return BidirectionalLSTMLayer(self, width, make)


class BidirectionalLSTMLayer(nnx.Module):
    def __init__(self, spec: BidirectionalLSTM, width: int, make: ParamFactory):
        hidden = spec.hidden or width
        self.both = BothDirections(spec.cell, {"x": width}, hidden, make)
        self.o = spec.linear.build([(2 * hidden, "mlp")], [(width, "embed")], make, name="o", role="residual")

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        return Result(self.o(self.both(ctx, {"x": x_BTD}).x))


WAYS = ("forward", "backward")


class BothDirections(nnx.Module):
    """[forward; backward] of every token, [B, T, 2H]. Tap sites: forward.lstm.h, backward.lstm.h, and those of c."""

    def __init__(self, cell: Cell, reads: dict[str, int], hidden: int, make: ParamFactory):
        self.forward = Recurrence(cell, reads, hidden, make.at("forward"))
        self.backward = Recurrence(cell, reads, hidden, make.at("backward"), reverse=True)

    def init_cache(self, room: Room) -> dict[str, Recurrent]:
        return {way: getattr(self, way).init_cache(room) for way in WAYS}

    def __call__(self, ctx: Context, read: dict[str, Float[Array, "B T _"]]) -> Result:
        """With a cache: that of each direction after the last token that it reads."""
        found = {}
        for way in WAYS:
            inner = ctx.scope(way)
            found[way] = getattr(self, way)(inner if ctx.cache is None else inner.replace(cache=ctx.cache[way]), read)
        caches = None if ctx.cache is None else {way: one.cache for way, one in found.items()}
        return Result(jnp.concatenate([one.x for one in found.values()], axis=-1), caches)

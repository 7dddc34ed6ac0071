"""A recurrence over the tokens of a row: one `lax.scan` of a cell, with documents, padding, caches and directions.

A document begins with the empty state; padding leaves the state as it is. So a scan from the end of a row reverses each
document by itself, wherever the padding is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.context import Context, Result
from arch.layers.caches import Recurrent, Room
from arch.layers.recurrent.clip import clipped
from arch.layers.recurrent.lstm_cell import Cell
from arch.params import ParamFactory


class Held(NamedTuple):
    """A state, a tree of [B, ...], and the document [B] that it is of; 0: none yet."""

    state: Any
    document: jax.Array


def begun(held: Held, document_B: Int[Array, "B"], empty: Any) -> Any:
    """The state that a token of `document` goes on from."""
    return choose(held.document == document_B, held.state, empty)


def gone_on(held: Held, document_B: Int[Array, "B"], state: Any) -> Held:
    """`state` after a token of `document`, or what was there after padding."""
    there = document_B > 0
    return Held(choose(there, state, held.state), jnp.where(there, document_B, held.document))


def choose(condition_B: jax.Array, yes: Any, no: Any) -> Any:
    """Row by row one of two trees of [B, ...]."""
    pick = lambda a, b: jnp.where(condition_B.reshape(-1, *(1,) * (a.ndim - 1)), a, b)  # noqa: E731
    return jax.tree.map(pick, yes, no)


def documents(x_BTD: jax.Array, ctx: Context) -> jax.Array:
    """int32 [B, T], the document of each token."""
    return jnp.ones(x_BTD.shape[:2], jnp.int32) if ctx.segments is None else ctx.segments


def time_first(tree: Any) -> Any:
    """[B, T, ...] -> [T, B, ...], or back."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), tree)


class Recurrence(nnx.Module):
    """A cell over all tokens. Its parameters are `cell.*`."""

    def __init__(self, spec: Cell, reads: Mapping[str, int], hidden: int, make: ParamFactory, reverse: bool = False):
        self.cell = spec.build(reads, hidden, make.at("cell"))
        self.reverse = reverse

    def init_cache(self, room: Room) -> Recurrent:
        """The state before the first token."""
        nothing = jnp.zeros((room.batch,), jnp.int32)
        return Recurrent.empty(Held(self.cell.empty(room.batch, room.dtype), nothing), room)

    def __call__(
        self,
        ctx: Context,
        read: Mapping[str, Float[Array, "B T _"]],
        onto: Float[Array, "B T H"] | None = None,
    ) -> Result:
        """h of every token, clipped with what it is added `onto`. Tap sites: lstm.h, lstm.c.

        Args:
          ctx: `cache`, where there is one, holds the state that came before.
          read: the cell's inputs by name.
          onto: a residual connection.
        """
        x_BTI = next(iter(read.values()))
        delta, dtype = self.cell.delta(ctx), x_BTI.dtype
        gates = [self.cell.product(name, x) for name, x in read.items()]
        empty = self.cell.empty(x_BTI.shape[0], dtype)
        whole = ctx.tap.wants("lstm.c") or (ctx.cache is not None and ctx.cache.past is not None)

        def step(held: Held, token: tuple[jax.Array, jax.Array]) -> tuple[Held, Any]:
            gates, document = token
            new = self.cell.step(gates, begun(held, document, empty), delta)
            held = gone_on(held, document, new)
            return held, held if whole else held.state.h

        first = Held(empty, jnp.zeros_like(documents(x_BTI, ctx)[:, 0])) if ctx.cache is None else ctx.cache.state
        first = jax.tree.map(lambda old, new: old.astype(new.dtype), first, Held(empty, first.document))
        tokens = time_first((sum(gates[1:], gates[0]), documents(x_BTI, ctx)))
        last, out = jax.lax.scan(step, first, tokens, reverse=self.reverse)
        out = time_first(out)
        if ctx.tap.wants("lstm.c"):
            ctx.tap("lstm.c", out.state.c)
        h = self.cell.output(out.state.h if whole else out, delta, dtype)
        h = ctx.tap("lstm.h", h)
        z = clipped(h if onto is None else h + onto, delta)
        if ctx.cache is None:
            return Result(z)
        return Result(z, Recurrent(last) if ctx.cache.past is None else ctx.cache.after(out, ctx.index))

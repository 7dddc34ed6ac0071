"""The bottom layer of GNMT's decoder (arXiv 1609.08144, sec. 3): an LSTM and the attention that it is bound up with.

At step i the cell reads [y_{i-1}; a_{i-1}] and gives d_i; the context is a_i = attention(query, memory). Layers above
read a context of each token. What differs is which (`compat`):

  "paper"    the query is d_{i-1}; layers above read a_i
  "gnmt_v2"  the query is d_i;     layers above read a_i            (tensorflow/nmt, its published configurations)
  "gnmt"     the query is d_i;     layers above read a_{i-1}        (tensorflow/nmt; a_0 is zero)
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.attention.additive import AdditiveAttention, Keys
from arch.layers.caches import Fixed, Recurrent, Room
from arch.layers.recurrent.clip import clipped
from arch.layers.recurrent.lstm_cell import Cell
from arch.layers.recurrent.recurrence import Held, begun, documents, gone_on, time_first
from arch.params import ParamFactory
from arch.spec import UserError

Compat = Literal["paper", "gnmt_v2", "gnmt"]


class Attended(NamedTuple):
    """What the layer returns.

    Attributes:
      x: d, [B, T, H].
      context: what layers above read, [B, T, M].
      cache: the caches by name; None without.
      taps: what was saved of the sites that all layers have.
    """

    x: jax.Array
    context: jax.Array
    cache: Any
    taps: dict[str, Any]


class AttentiveLSTM(nnx.Module):
    """The layer, over all tokens in one scan. Parameters: `cell.*` and `attention.*`."""

    def __init__(
        self, cell: Cell, attention: AdditiveAttention, width: int, memory: int, compat: Compat, make: ParamFactory
    ):
        self.cell = cell.build({"x": width, "context": memory}, width, make.at("cell"))
        self.attention = attention.build(width, memory, make.at("attention"))
        self.memory, self.compat = memory, compat

    def init_cache(self, room: Room) -> dict[str, Any]:
        """The state before the first token, and keys of no length: the first call brings the memory."""
        state = (self.cell.empty(room.batch, room.dtype), jnp.zeros((room.batch, self.memory), room.dtype))
        widths = {"k": self.attention.units, "x": self.memory}
        keys = {name: jnp.zeros((room.batch, 0, width), room.dtype) for name, width in widths.items()}
        nothing = jnp.zeros((room.batch, 0), jnp.int32)
        recurrent = Recurrent.empty(Held(state, jnp.zeros((room.batch,), jnp.int32)), room)
        return {"state": recurrent, "keys": Fixed({**keys, "segments": nothing})}

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Attended:
        """Tap sites: lstm.h, lstm.c, resid_post, as those of the layers above; cross.attn.scores and
        cross.attn.pattern [B, 1, T, S], of which an edit sees one query at a time.

        Raises:
          UserError: neither a memory nor a cache that holds one.
        """
        delta, dtype, keys = self.cell.delta(ctx), x_BTD.dtype, self.keys(ctx)
        batch = x_BTD.shape[0]
        empty = (self.cell.empty(batch, dtype), jnp.zeros((batch, self.memory), dtype))
        past = ctx.cache is not None and ctx.cache["state"].past is not None
        watched = ctx.tap.wants("lstm.c")

        def step(held: Held, token: tuple[jax.Array, jax.Array]) -> tuple[Held, Any]:
            gates, document = token
            tap = ctx.tap.scope("cross").at(None)
            old, before = begun(held, document, empty)
            read = lambda state: self.cell.output(state.h, delta, dtype)  # noqa: E731
            new = self.cell.step(gates + self.cell.product("context", before), old, delta)
            query = read(old if self.compat == "paper" else new)
            after = self.attention(query, keys, document, tap)
            shown = before if self.compat == "gnmt" else after
            held = gone_on(held, document, (new, after))
            own, c = held.state[0], held.state[0].c if watched else None
            return held, (read(own), shown, c, held if past else None, tap.collect())

        none = jnp.zeros((batch,), jnp.int32)
        first = Held(empty, none) if ctx.cache is None else ctx.cache["state"].state
        first = jax.tree.map(lambda old, new: old.astype(new.dtype), first, Held(empty, none))
        tokens = time_first((self.cell.product("x", x_BTD), documents(x_BTD, ctx)))
        last, out = jax.lax.scan(step, first, tokens)
        h, context, c, states, patterns = time_first(out)
        ctx.tap.adopt({site: value[:, :, :, 0].swapaxes(1, 2) for site, value in patterns.items()})
        own = ctx.tap.at(0)
        if watched:
            own("lstm.c", c)
        h = own("resid_post", clipped(own("lstm.h", h), delta))
        taps = own.collect()
        if ctx.cache is None:
            return Attended(h, context, None, taps)
        state = ctx.cache["state"].after(states, ctx.index) if past else Recurrent(last)
        return Attended(h, context, {"state": state, "keys": Fixed(keys._asdict())}, taps)

    def keys(self, ctx: Context) -> Keys:
        """Those of the memory, or those in the cache."""
        if ctx.memory is None:
            if ctx.cache is None:
                raise UserError("the decoder has nothing to attend to: give it Inputs(source=...), or a cache that has")
            return Keys(**ctx.cache["keys"].entries)
        x, segments = ctx.memory.x, ctx.memory.segments
        return self.attention.keys(x, jnp.ones(x.shape[:2], jnp.int32) if segments is None else segments)

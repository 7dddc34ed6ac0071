"""Layers of a recurrent stack above its first: z^l = LSTM_l(z^{l-1}) + z^{l-1} from layer `residual_from` on.

GNMT (arXiv 1609.08144, eq. 6). Layers that read the same widths are stacked and looped over by `lax.scan`; each is in
turn one scan over the tokens. A decoder's layers read a context of each token as well (`Context.memory`), which no
residual connection carries on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Result, dropout
from arch.layers.caches import Room
from arch.layers.recurrent.lstm_cell import Cell
from arch.layers.recurrent.recurrence import Recurrence
from arch.params import ParamFactory, stack_layers
from arch.sharding import RESIDUAL_AXES, constrain
from arch.stacks.base import Loop, Remat, layer_inputs, run_part, turn, variables
from arch.stacks.sequential import in_order


class RecurrentLayer(nnx.Module):
    """One layer. `residual_from`: the number of the first layer with a residual connection, the lowest being 1; None:
    this one has none."""

    def __init__(
        self,
        cell: Cell,
        reads: Mapping[str, int],
        hidden: int,
        make: ParamFactory,
        residual_from: int | None = None,
        rate: float = 0.0,
    ):
        self.residual_from, self.rate = residual_from, rate
        self.lstm = Recurrence(cell, reads, hidden, make)

    def init_cache(self, room: Room) -> Any:
        return self.lstm.init_cache(room)

    def __call__(self, z_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        read = {"x": dropout(z_BTD, self.rate, ctx.dropout_key)}
        if ctx.memory is not None:
            read["context"] = ctx.memory.x
        onto = None
        if self.residual_from is not None:
            onto = jnp.where(jnp.asarray(ctx.layer) + 1 >= self.residual_from, z_BTD, jnp.zeros((), z_BTD.dtype))
        z_BTD, cache = self.lstm(ctx, read, onto)
        return Result(ctx.tap("resid_post", z_BTD), cache)


class RecurrentStack(nnx.Module):
    """Layers 2 and on. `reads` are the widths that each reads; parameters are `sections.I.*`, a section being layers
    that read the same."""

    def __init__(
        self,
        cell: Cell,
        reads: Sequence[Mapping[str, int]],
        hidden: int,
        residual_from: int | None,
        rate: float,
        remat: Remat,
        make: ParamFactory,
    ):
        self.remat, self.depth = remat, 1 + len(reads)
        groups = [(dict(key), list(group)) for key, group in itertools.groupby(reads)]
        first, spans, sections = 1, [], {}
        for number, (widths, group) in enumerate(groups):
            layers = tuple(range(first, first + len(group)))
            onto = residual_from if widths["x"] == hidden else None

            def build(one: ParamFactory, widths: dict[str, int] = widths, onto: int | None = onto) -> RecurrentLayer:
                return RecurrentLayer(cell, widths, hidden, one, onto, rate)

            sections[str(number)] = stack_layers(build, make.at("layers"), self.depth, layers)
            spans.append(layers)
            first += len(group)
        self.spans = tuple(spans)
        self.sections = nnx.Dict(sections)

    def init_cache(self, room: Room) -> dict[str, Any]:
        """The caches of each section, every leaf with a leading axis of its layers."""

        def repeated(section: Any, layers: tuple[int, ...]) -> Any:
            one = section.init_cache(room)
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(layers), *leaf.shape)), one)

        return {str(i): repeated(self.sections[str(i)], layers) for i, layers in enumerate(self.spans)}

    def __call__(self, z_BTD: Float[Array, "B T D"], ctx: Context, below: Mapping[str, Any]) -> Result:
        """z of the last layer. `below`: what the taps of the first layer saved, by site."""
        saved = [([0], {site: value[None] for site, value in below.items()})]
        caches = {}
        for number, layers in enumerate(self.spans):
            section = self.sections[str(number)]
            graphdef, stacked = variables(section)

            def body(z: jax.Array, inputs: Any, graphdef: Any = graphdef) -> tuple[jax.Array, Any]:
                layer, (params, buffers), key, cache = inputs
                inner = ctx.replace(layer=layer, key=key, cache=cache, tap=ctx.tap.at(layer))
                (z, after), answer, taps = run_part(graphdef, params, buffers, z, inner)
                return constrain(z, RESIDUAL_AXES), (after, answer, taps)

            keys, _ = layer_inputs(ctx, layers)
            cache = None if ctx.cache is None else ctx.cache[str(number)]
            loop: Loop = "scan" if len(layers) > 1 else "unroll"  # one layer may write another width than it reads
            z_BTD, out = turn(body, z_BTD, layers, (stacked, keys, cache), loop, self.remat)
            caches[str(number)], answer, taps = out
            ctx.answers.add(section, answer)
            saved.append((list(layers), taps))
        ctx.tap.adopt(in_order(saved))
        return Result(z_BTD, None if ctx.cache is None else caches)

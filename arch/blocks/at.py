"""Bottlenecks at named sites inside a block: `PreNorm(at=(("attn.z", PerHead(Codebook())), ("mlp_out", Codebook())))`.

Every part calls `ctx.tap(site, x)` on its activations. A block with bottlenecks calls its sublayers with a tap that
passes the value of such a site through the bottleneck first and then on to the user's tap, so that no part has to know
of it. Site "attn.z" has the parameters `at.attn_z.*`, the tap sites `attn.z.in`, `attn.z.codes`, ..., and the gate
`Gates({"attn.z": ...})`; where that is closed, the value is what it was, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.context import Context, Memory, gate
from arch.layers.init.initializers import Normal
from arch.params import ParamFactory
from arch.spec import Problem, SpecError, UserError
from arch.taps import NoTap, Recorder, Tap

ROWS, TOKENS, PLACES = 2, 7, 5
"""Of the call that finds the shapes of the sites; `PLACES` of what cross-attention reads."""


def parameter(site: str) -> str:
    """What the bottleneck at a site is called in paths of parameters."""
    return site.replace(".", "_")


def build_at(spec: Any, width: int, make: ParamFactory) -> Any:
    """The bottlenecks `spec.at` of a block of `width`, an `nnx.Dict` by `parameter` of the site.

    Raises:
      SpecError: a site that the block does not have, or whose values are no vectors of tokens; lists those there are.
    """
    shapes = sites(dataclasses.replace(spec, at=()), width, make.depth)
    for site, _ in spec.at:
        if site not in shapes:
            told = f"has no site {site} of vectors of tokens; this block has {', '.join(shapes)}"
            raise SpecError(spec, [Problem("at", tuple(site for site, _ in spec.at), told)])
    return nnx.Dict({parameter(site): part.build_at(shapes[site], make.at(parameter(site))) for site, part in spec.at})


def sites(bare: Any, width: int, depth: int = 1) -> dict[str, tuple[int, ...]]:
    """Site -> the sizes behind rows and tokens of its values, for the sites that a bottleneck can stand at in a block
    `bare`. Nothing is computed."""
    try:
        return _found(bare, width, depth, (ROWS, TOKENS))
    except (TypeError, ValueError) as error:
        try:
            return _found(bare, width, depth, (ROWS, TOKENS, TOKENS))  # a block of images, of rows and columns
        except (TypeError, ValueError):
            raise error from None


def _found(bare: Any, width: int, depth: int, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    found = jax.eval_shape(lambda: _called(bare, width, depth, shape))
    return {site: x.shape[len(shape) :] for site, x in found.items() if x.shape[: len(shape)] == shape}


def _called(bare: Any, width: int, depth: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """What the block saves at all its sites, called on nothing."""
    part = bare.build(width, ParamFactory(jax.random.key(0), Normal(), depth))
    widths = [getattr(one, "memory_width", None) for one in bare.sublayers.values()]
    memory = jnp.zeros((ROWS, PLACES, next((one for one in widths if one), width)))
    recorder, positions = Tap(save=".*").recorder(), np.arange(shape[1], dtype=np.int32)[None]
    ctx = Context(positions, None, positions, None, tap=recorder, memory=Memory(memory, None, np.arange(PLACES)[None]))
    part(jnp.zeros((*shape, width)), ctx)
    return recorder.collect()


class Through(NoTap):
    """A tap of one call of a block: `parts` by site, then the tap that the block was called with."""

    def __init__(self, parts: Mapping[str, Any], ctx: Context, tap: NoTap | Recorder, prefix: str = ""):
        self.parts, self.ctx, self.tap, self.prefix = parts, ctx, tap, prefix

    def __call__(self, site: str, x: jax.Array) -> jax.Array:
        full = self.prefix + site
        if full in self.parts:
            x = gate(self.ctx.gates.get(full), self.parts[full](x, self.ctx.scope(full)), x)
        return self.tap(site, x)

    def wants(self, site: str) -> bool:
        return self.prefix + site in self.parts or self.tap.wants(site)

    def scope(self, name: str) -> Through:
        return Through(self.parts, self.ctx, self.tap.scope(name), f"{self.prefix}{name}.")

    def at(self, layer: Any) -> Through:
        raise UserError("a stack inside a block with bottlenecks has no taps of its own")

    def adopt(self, saved: Mapping[str, Any]) -> None:
        self.tap.adopt(saved)

    def collect(self) -> dict[str, Any]:
        return self.tap.collect()

    def check(self) -> None:
        self.tap.check()

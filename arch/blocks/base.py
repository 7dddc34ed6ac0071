"""Blocks: how named sublayers write into the residual stream.

A block is an ordered mapping of sublayers: `mixer`, `feed_forward`, and as many others as `extra` names (`cross`,
`memory`, `adapter`, ...). The paths of parameters, gates, dropout keys, caches and tap sites follow the name.

A block is called `block(x, ctx) -> Result`. Tap sites: resid_pre; then what each sublayer adds to the stream, after
dropout, gate and the sandwich's outer norm (the parts sum to it): attn_out of `mixer`, mlp_out of `feed_forward`,
NAME_out of another; resid_mid after the first sublayer, resid_after_NAME after others; resid_post. The sites inside a
sublayer of another name are scoped by it: cross.attn.q. A bottleneck can stand at any of these sites (`blocks.at`).
"""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks.at import Through, build_at, parameter
from arch.blocks.dropout import DropoutBy
from arch.bottlenecks.base import Bottleneck
from arch.context import Context, Result, dropout, gate, named_key
from arch.layers.attention.softmax import Attention
from arch.layers.caches import Room
from arch.layers.feed_forward import GatedMLP
from arch.layers.norms.common import Norm, RMSNorm
from arch.layers.sublayer import FeedForward, Mixer, Sublayer
from arch.params import ParamFactory
from arch.spec import Problem, Spec, UserError, between

SITES = {"mixer": "attn_out", "feed_forward": "mlp_out"}
"""The sublayers whose sites have names of their own in the field, and no scope."""

TAKEN = ("block", "norm", "extra", "order", "at", "dropout", "attn", "mlp")
"""Names that a sublayer cannot have: gates, fields, and what the sites of mixer and feed_forward are called by."""


def site(name: str) -> str:
    """The tap site of what sublayer `name` adds to the stream."""
    return SITES.get(name, f"{name}_out")


@dataclasses.dataclass(frozen=True)
class Block(Spec, abc.ABC):
    """A residual block.

    Attributes:
      mixer: moves information between tokens.
      feed_forward: treats each token by itself; None: the block only mixes.
      norm: every norm of the block is one of these.
      dropout: rate at which what a sublayer writes is dropped, while training with a key; `DropoutBy`: by sublayer.
      extra: further sublayers, (name, part) each: `(("cross", CrossAttention()),)`.
      order: the names of all sublayers in order; empty: mixer, those of `extra`, feed_forward.
      at: bottlenecks at tap sites of the block, (site, bottleneck) each: `(("attn.z", PerHead(Codebook())),)`.
    """

    in_sequence: ClassVar[bool] = False
    """Whether it is defined by its place among all layers, one after the other; blocks side by side have none."""

    mixer: Mixer = Attention()
    feed_forward: FeedForward | None = GatedMLP()
    norm: Norm = RMSNorm()
    dropout: float | DropoutBy = 0.0
    extra: tuple[tuple[str, Sublayer], ...] = ()
    order: tuple[str, ...] = ()
    at: tuple[tuple[str, Bottleneck], ...] = ()

    def problems(self) -> Iterator[Problem]:
        yield from self._dropout_problems()
        named = [name for name, _ in self.extra]
        for name in named:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in (*SITES, *TAKEN) or named.count(name) > 1:
                yield Problem("extra", name, "names of sublayers must be different lower-case words, and none of "
                              + ", ".join((*SITES, *TAKEN)))  # fmt: skip
        if self.order and sorted(self.order) != sorted(self._parts()):
            yield Problem("order", self.order, f"must name each sublayer once: {', '.join(self._parts())}")

        sites = [parameter(site) for site, _ in self.at]
        if len(set(sites)) < len(sites):
            yield Problem("at", tuple(site for site, _ in self.at), "must have one bottleneck at a site")

    def _dropout_problems(self) -> Iterator[Problem]:
        if not isinstance(self.dropout, DropoutBy):
            yield from between(self, 0, 0.999, "dropout")
            return
        for name, _ in self.dropout.rates:
            if name not in self._parts():
                yield Problem("dropout.rates", name, f"must be a sublayer: {', '.join(self._parts())}")

    def _parts(self) -> dict[str, Sublayer]:
        parts: dict[str, Sublayer] = {"mixer": self.mixer, **dict(self.extra)}
        return parts if self.feed_forward is None else {**parts, "feed_forward": self.feed_forward}

    @property
    def sublayers(self) -> dict[str, Sublayer]:
        """Name -> sublayer, in order."""
        parts = self._parts()
        return {name: parts[name] for name in self.order or parts}

    @property
    def causal(self) -> bool | None:
        """Whether no token's output depends on later tokens; None: a sublayer does not say."""
        told = [part.causal for part in self.sublayers.values()]
        return False if False in told else None if None in told else True

    @abc.abstractmethod
    def build(self, width: int, make: ParamFactory) -> BlockLayer:
        """One block of a model of `width`."""


class BlockLayer(nnx.Module):
    """What all blocks share: the sublayers, their caches, dropout and gates. Subclasses say how a sublayer writes."""

    def __init__(self, spec: Block, width: int, make: ParamFactory):
        self.names = tuple(spec.sublayers)
        by = spec.dropout
        self.rates = tuple(by.rate(name) if isinstance(by, DropoutBy) else by for name in self.names)
        self.mixers = tuple(name for name, part in spec.sublayers.items() if isinstance(part, Mixer))
        for name, part in spec.sublayers.items():
            self._hold(name, part.build(width, make.at(name)))
        self.sites = tuple(site for site, _ in spec.at)
        if spec.at:
            self.at = build_at(spec, width, make.at("at"))

    def _hold(self, name: str, part: Any) -> None:
        """Keeps `part` under `name`. Raises UserError if the block has something of that name already."""
        if hasattr(self, name):
            raise UserError(f"{type(self).__name__} has something else called {name}: give the sublayer another name")
        setattr(self, name, part)

    def add_beside(self, what: str, build: Any) -> None:
        """Makes a part for each sublayer, `build(maker)`; its parameters are `NAME_what.*`."""
        for name in self.names:
            self._hold(f"{name}_{what}", build(name))

    def beside(self, name: str, what: str) -> Any:
        """The part that `add_beside` made for sublayer `name`."""
        return getattr(self, f"{name}_{what}")

    def init_cache(self, room: Room) -> dict[str, Any]:
        """The caches of the sublayers that have one. Raises UserError for a mixer without: it would see no past."""
        parts = {name: getattr(self, name) for name in self.names}
        for name in self.mixers:
            if not hasattr(parts[name], "init_cache"):
                raise UserError(f"{type(parts[name]).__name__} ({name}) has no init_cache, which a mixer that decodes "
                                "token by token needs")  # fmt: skip
        found = {name: part for name, part in parts.items() if hasattr(part, "init_cache")}
        return {name: part.init_cache(room) for name, part in found.items()}

    def write(self, name: str, h: jax.Array, ctx: Context) -> Result:
        """What sublayer `name`, reading `h`, adds to the stream; with its cache under its name."""
        key = named_key(ctx.key, name)
        tap = ctx.tap if name in SITES else ctx.tap.scope(name)
        inner = ctx.replace(cache=None if ctx.cache is None else ctx.cache.get(name), key=named_key(key, "in"), tap=tap)
        y, cache = getattr(self, name)(h, inner)
        if inner.cache is not None and cache is None:
            raise UserError(f"{type(getattr(self, name)).__name__} ({name}) was called with a cache and returned none: "
                            "Result(x, cache)")  # fmt: skip
        y = dropout(y, self.rates[self.names.index(name)], ctx.replace(key=key).dropout_key)
        return Result(ctx.tap(site(name), self.finish(name, y, ctx)), {} if cache is None else {name: cache})

    def finish(self, name: str, y: jax.Array, ctx: Context) -> jax.Array:
        """The last touch on what a sublayer adds: its gate."""
        return gate(ctx.gates.get(name), y, 0.0)

    def residual(self, x: jax.Array, ctx: Context) -> Result:
        """The sublayers in turn, each through `step`."""
        caches: dict[str, Any] = {}
        for index, name in enumerate(self.names):
            x, cache = self.step(name, x, ctx)
            caches |= cache
            if index + 1 < len(self.names):
                x = ctx.tap("resid_mid" if index == 0 else f"resid_after_{name}", x)
        return Result(x, caches)

    def step(self, name: str, x: jax.Array, ctx: Context) -> Result:
        """The stream after sublayer `name`, and its cache."""
        raise TypeError(f"{type(self).__name__} must define step or residual")

    def __call__(self, x_BTD: Float[Array, "B *T D"], ctx: Context) -> Result:
        if self.sites:
            parts = {site: self.at[parameter(site)] for site in self.sites}
            ctx = ctx.replace(tap=Through(parts, ctx.replace(cache=None), ctx.tap))
        x = ctx.tap("resid_pre", x_BTD)
        y, caches = self.residual(x, ctx)
        y = ctx.tap("resid_post", gate(ctx.gates.get("block"), y, x))
        return Result(y, None if ctx.cache is None else caches)

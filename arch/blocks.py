"""Blocks: how a mixer and a feed-forward write into the residual stream.

`PreNorm`       x + f(norm(x))            (arXiv 2002.04745)
`PostNorm`      norm(x + f(x))            (arXiv 1706.03762)
`SandwichNorm`  x + norm(f(norm(x)))      (arXiv 2105.13290; Peri-LN, arXiv 2502.02732)
`Parallel`      x + mixer(norm(x)) + feed_forward(norm(x))   (GPT-J; arXiv 2204.02311, section 2)

A block is called `block(x, ctx) -> Result`. Tap sites: resid_pre, attn_out, resid_mid, mlp_out, resid_post. `attn_out`
and `mlp_out` are what is added to the stream, after dropout, gate and the sandwich's outer norm: the parts sum to it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Result, dropout, gate
from arch.layers.attention import Attention, Mixer
from arch.layers.feed_forward import FeedForward, GatedMLP
from arch.layers.norms import Norm, RMSNorm
from arch.params import Maker
from arch.spec import Problem, Spec, between

SITES = {"mixer": "attn_out", "feed_forward": "mlp_out"}


@dataclasses.dataclass(frozen=True)
class Block(Spec, abc.ABC):
    """A residual block.

    Attributes:
      mixer: moves information between tokens.
      feed_forward: treats each token by itself; None: the block only mixes.
      norm: every norm of the block is one of these.
      dropout: rate at which what a sublayer writes is dropped, when the model is called with a key.
    """

    mixer: Mixer = Attention()
    feed_forward: FeedForward | None = GatedMLP()
    norm: Norm = RMSNorm()
    dropout: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 0.999, "dropout")

    @abc.abstractmethod
    def build(self, width: int, make: Maker) -> BlockLayer:
        """One block of a model of `width`."""


class BlockLayer(nnx.Module):
    """What all blocks share: the sublayers, their caches, dropout and gates. Subclasses say how a sublayer writes."""

    def __init__(self, spec: Block, width: int, make: Maker):
        self.rate = spec.dropout
        self.names = ("mixer",) if spec.feed_forward is None else ("mixer", "feed_forward")
        self.mixer = spec.mixer.build(width, make.at("mixer"))
        if spec.feed_forward is not None:
            self.feed_forward = spec.feed_forward.build(width, make.at("feed_forward"))

    def init_cache(self, batch: int, length: int, dtype: Any) -> dict[str, Any]:
        """The caches of the sublayers that have one."""
        return {"mixer": self.mixer.init_cache(batch, length, dtype)}

    def write(self, name: str, h: jax.Array, ctx: Context) -> Result:
        """What sublayer `name`, reading `h`, adds to the stream; with its cache under its name, and its aux."""
        index = self.names.index(name)
        inner = ctx.replace(cache=None if ctx.cache is None else ctx.cache.get(name))
        y, cache, aux = getattr(self, name)(h, inner)
        key = None if ctx.key is None else jax.random.fold_in(ctx.key, index)
        y = ctx.tap(SITES[name], self.finish(name, dropout(y, self.rate, key), ctx))
        return Result(y, {} if cache is None else {name: cache}, aux)

    def finish(self, name: str, y: jax.Array, ctx: Context) -> jax.Array:
        """The last touch on what a sublayer adds: its gate."""
        return gate(getattr(ctx.keep, name), y, 0.0)

    def residual(self, x: jax.Array, ctx: Context) -> Result:
        """The sublayers in turn, each through `step`."""
        caches: dict[str, Any] = {}
        aux: dict[str, jax.Array] = {}
        for index, name in enumerate(self.names):
            x, cache, extra = self.step(name, x, ctx)
            caches, aux = {**caches, **cache}, {**aux, **extra}
            if index + 1 < len(self.names):
                x = ctx.tap("resid_mid", x)
        return Result(x, caches, aux)

    def step(self, name: str, x: jax.Array, ctx: Context) -> Result:
        """The stream after sublayer `name`, its cache and its aux."""
        raise TypeError(f"{type(self).__name__} must define step or residual")

    def __call__(self, x_BTD: Float[Array, "B *T D"], ctx: Context) -> Result:
        x = ctx.tap("resid_pre", x_BTD)
        y, caches, aux = self.residual(x, ctx)
        y = ctx.tap("resid_post", gate(ctx.keep.block, y, x))
        return Result(y, None if ctx.cache is None else caches, aux)


@dataclasses.dataclass(frozen=True)
class PreNorm(Block):
    """x + f(norm(x)) for each sublayer."""

    def build(self, width, make):
        return PreNormLayer(self, width, make)


class PreNormLayer(BlockLayer):
    def __init__(self, spec: Block, width: int, make: Maker):
        super().__init__(spec, width, make)
        for name in self.names:
            setattr(self, f"{name}_norm", spec.norm.build(width, make.at(f"{name}_norm")))

    def step(self, name, x, ctx):
        y, cache, aux = self.write(name, getattr(self, f"{name}_norm")(x, ctx), ctx)
        return Result(x + y, cache, aux)


@dataclasses.dataclass(frozen=True)
class PostNorm(Block):
    """norm(x + f(x)) for each sublayer. A closed gate leaves the stream as it is, without the norm."""

    def build(self, width, make):
        return PostNormLayer(self, width, make)


class PostNormLayer(PreNormLayer):
    def finish(self, name, y, ctx):
        return y

    def step(self, name, x, ctx):
        y, cache, aux = self.write(name, x, ctx)
        y = getattr(self, f"{name}_norm")(x + y, ctx)
        return Result(gate(getattr(ctx.keep, name), y, x), cache, aux)


@dataclasses.dataclass(frozen=True)
class SandwichNorm(Block):
    """x + norm(f(norm(x))) for each sublayer, with norms of their own before and after."""

    def build(self, width, make):
        return SandwichNormLayer(self, width, make)


class SandwichNormLayer(PreNormLayer):
    def __init__(self, spec: Block, width: int, make: Maker):
        super().__init__(spec, width, make)
        for name in self.names:
            setattr(self, f"{name}_out_norm", spec.norm.build(width, make.at(f"{name}_out_norm")))

    def finish(self, name, y, ctx):
        return super().finish(name, getattr(self, f"{name}_out_norm")(y, ctx), ctx)


@dataclasses.dataclass(frozen=True)
class Parallel(Block):
    """x + mixer(norm(x)) + feed_forward(norm(x)): both read the same normed stream."""

    def build(self, width, make):
        return ParallelLayer(self, width, make)


class ParallelLayer(BlockLayer):
    def __init__(self, spec: Block, width: int, make: Maker):
        super().__init__(spec, width, make)
        self.norm = spec.norm.build(width, make.at("norm"))

    def residual(self, x, ctx):
        h = self.norm(x, ctx)
        results = [(name, self.write(name, h, ctx)) for name in self.names]
        caches = {key: value for _, result in results for key, value in result.cache.items()}
        aux = {key: value for _, result in results for key, value in result.aux.items()}
        return Result(x + sum(result.x for _, result in results), caches, aux)

"""Pre-norm blocks with a factor s = 1 / l^exponent of the depth l = 1..L at a chosen place (arXiv 2502.05795).

`ScaledNorm`       x + f(s norm(x))     LayerNorm Scaling, the paper's choice
`ScaledInput`      x + f(norm(s x))
`ScaledSublayer`   x + s f(norm(x))     the better one for vision transformers there
`ScaledResidual`   s (x + f(norm(x)))   diverges there

Each has the parameters of `PreNorm` under the same names, so that checkpoints open in one another. For LayerNorm
Scaling in other blocks there is the norm `layers.depth_scale.DepthScaled`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

import jax

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm, PreNormLayer
from arch.context import Context, Result, gate
from arch.layers.norms.depth_scale import depth_factor, depth_problems, times
from arch.params import ParamFactory
from arch.spec import Problem, one_of

Which = Literal["both", "attention", "feed_forward"]
SUBLAYERS = {"attention": "mixer", "feed_forward": "feed_forward"}


@dataclasses.dataclass(frozen=True)
class DepthScaledBlock(Block):
    """What the four share.

    Attributes:
      exponent: of the depth.
      which: the sublayers that get the factor; "both": all that the block has.
      index: l, from 1, for every layer; None: the index of the layer.
    """

    exponent: float = 0.5
    which: Which = "both"
    index: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from depth_problems(self)
        yield from one_of(self, "which", get_args(Which))


class DepthScaledLayer(PreNormLayer):
    """A pre-norm block with three hooks for how the factor enters: `read`, `written` and `step`."""

    def __init__(self, spec: DepthScaledBlock, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.exponent, self.index = spec.exponent, spec.index
        self.scaled = self.names if spec.which == "both" else (SUBLAYERS[spec.which],)

    def scale(self, name: str, x: jax.Array, ctx: Context) -> jax.Array:
        """`x` times the factor, if sublayer `name` gets it."""
        if name not in self.scaled:
            return x
        return times(x, depth_factor(ctx.layer if self.index is None else self.index - 1, self.exponent))

    def normed(self, name: str, x: jax.Array, ctx: Context) -> jax.Array:
        """What sublayer `name` reads."""
        h: jax.Array = self.beside(name, "norm")(x, ctx)
        return h

    def step(self, name, x, ctx):
        y, cache = self.write(name, self.normed(name, x, ctx), ctx)
        return Result(x + y, cache)


@dataclasses.dataclass(frozen=True)
class ScaledNorm(DepthScaledBlock, PreNorm):
    """x + f(norm(x) / l^exponent): LayerNorm Scaling."""

    def build(self, width, make):
        return ScaledNormLayer(self, width, make)


class ScaledNormLayer(DepthScaledLayer):
    def normed(self, name, x, ctx):
        return self.scale(name, super().normed(name, x, ctx), ctx)


@dataclasses.dataclass(frozen=True)
class ScaledInput(DepthScaledBlock, PreNorm):
    """x + f(norm(x / l^exponent)): the norm undoes the factor, but for its eps."""

    def build(self, width, make):
        return ScaledInputLayer(self, width, make)


class ScaledInputLayer(DepthScaledLayer):
    def normed(self, name, x, ctx):
        return super().normed(name, self.scale(name, x, ctx), ctx)


@dataclasses.dataclass(frozen=True)
class ScaledSublayer(DepthScaledBlock, PreNorm):
    """x + f(norm(x)) / l^exponent."""

    def build(self, width, make):
        return ScaledSublayerLayer(self, width, make)


class ScaledSublayerLayer(DepthScaledLayer):
    def finish(self, name, y, ctx):
        return super().finish(name, self.scale(name, y, ctx), ctx)


@dataclasses.dataclass(frozen=True)
class ScaledResidual(DepthScaledBlock, PreNorm):
    """(x + f(norm(x))) / l^exponent. A closed gate leaves the stream as it is, without the factor."""

    def build(self, width, make):
        return ScaledResidualLayer(self, width, make)


class ScaledResidualLayer(DepthScaledLayer):
    def finish(self, name, y, ctx):
        return y

    def step(self, name, x, ctx):
        y, cache = self.write(name, self.normed(name, x, ctx), ctx)
        return Result(gate(ctx.gates.get(name), self.scale(name, x + y, ctx), x), cache)

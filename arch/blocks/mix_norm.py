"""Mix-LN (arXiv 2412.13795): the first floor(fraction L) layers are post-norm, the rest pre-norm.

Both kinds have the same parameters, and the kind is chosen by the layer's index, so that one scanned block serves all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNormLayer
from arch.context import Context, Result, gate
from arch.params import ParamFactory
from arch.spec import Problem, between


@dataclasses.dataclass(frozen=True)
class MixNorm(Block):
    """norm(x + f(x)) in the first floor(`fraction` * L) layers, x + f(norm(x)) in the others.

    A closed gate leaves the stream as it is in both.
    """

    in_sequence: ClassVar[bool] = True

    fraction: float = 0.25

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from between(self, 0, 1, "fraction")

    def build(self, width, make):
        return MixNormLayer(self, width, make)


class MixNormLayer(PreNormLayer):
    def __init__(self, spec: MixNorm, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.post_layers = math.floor(spec.fraction * make.depth)

    def choose(self, ctx: Context, post: jax.Array, pre: jax.Array) -> jax.Array:
        """`post` in a post-norm layer, `pre` in another. Both are computed: they are one norm each."""
        return jnp.where(jnp.asarray(ctx.layer) < self.post_layers, post, pre)

    def finish(self, name, y, ctx):
        return self.choose(ctx, y, super().finish(name, y, ctx))

    def step(self, name, x, ctx):
        norm = self.beside(name, "norm")
        y, cache = self.write(name, self.choose(ctx, x, norm(x, ctx)), ctx)
        post = gate(ctx.gates.get(name), norm(x + y, ctx), x)
        return Result(self.choose(ctx, post, x + y), cache)

"""Parallel-shallow stacks: the same blocks side by side (arXiv 2309.08414).

    sequential       y = (I + F_L) o ... o (I + F_1) x
    parallel         y = x + sum_k F_k(x)                    one identity, not L
    g groups         L / g branches side by side in each of g groups in sequence

where F_k(x) = block_k(x) - x is what block k writes, whatever the block. g = L is the sequential stack, g = 1 the
parallel one. Parameters are laid out and drawn as a sequential stack's, `stack.blocks.*` with a leading "layers" axis
in the order of the sequence, so that a checkpoint of one layout opens in another.

A branch keeps its own index for its parameters, gates, dropout, taps and caches. What depends on depth (`ctx.layer`, as
LayerNorm Scaling reads it) is the index of the group, for all branches of a group stand at one depth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks import Block
from arch.context import Context, Result
from arch.layers.norms import Norm
from arch.params import Maker, stack_layers
from arch.sharding import constrain, residual_axes
from arch.spec import Problem, at_least, one_of
from arch.stacks import Loop, Remat, Sequential, SequentialLayer, Stack, layer_inputs, turn

Combine = Literal["sum", "root"]


@dataclasses.dataclass(frozen=True)
class ParallelStack(Stack):
    """All blocks side by side.

    Attributes:
      combine: what the branches write is added up ("sum", the paper's), or added up and divided by the square root of
        their number ("root"), which keeps the variance of what one block writes.
      norm: one norm that all branches of a group read through, with blocks that have `NoNorm`; None: each block has
        its own norms. Its parameters are `stack.norm.*`, one for each group.
      loop: how groups follow each other, as in `Sequential`.
      remat: what the backward pass recomputes, as in `Sequential`.
    """

    combine: Combine = "sum"
    norm: Norm | None = None
    loop: Loop = "scan"
    remat: Remat = "none"

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "combine", get_args(Combine))
        yield from one_of(self, "loop", get_args(Loop))
        yield from one_of(self, "remat", get_args(Remat))

    def count(self, depth: int) -> int:
        """How many groups `depth` blocks make."""
        return 1

    def build(self, block: Block, width: int, depth: int, make: Maker) -> SequentialLayer:
        if self.count(depth) == depth and self.norm is None:  # blocks themselves: x + (block(x) - x) would round
            return SequentialLayer(Sequential(self.loop, self.remat), block, width, depth, make)
        return GroupedLayer(self, block, width, depth, make)


@dataclasses.dataclass(frozen=True)
class Grouped(ParallelStack):
    """`groups` in sequence, depth / groups blocks side by side in each."""

    groups: int = 2

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "groups")

    def count(self, depth: int) -> int:
        if depth % self.groups:
            divisors = ", ".join(str(n) for n in range(1, depth + 1) if depth % n == 0)
            raise self.refuse("groups", f"must divide the depth {depth} ({divisors})")
        return self.groups


class GroupedLayer(SequentialLayer):
    def __init__(self, spec: ParallelStack, block: Block, width: int, depth: int, make: Maker):
        self.loop, self.remat, self.depth = spec.loop, spec.remat, depth
        self.groups = spec.count(depth)
        self.branches = depth // self.groups
        self.scale = self.branches**-0.5 if spec.combine == "root" else 1.0
        self.blocks = stack_layers(lambda layer_make: block.build(width, layer_make), make.at("blocks"), depth)
        if spec.norm is not None:
            norm = spec.norm
            self.norm = stack_layers(lambda group: norm.build(width, group), make.at("norm"), self.groups)

    def __call__(self, x_BTD: Float[Array, "B *T D"], ctx: Context) -> tuple[Result, dict[str, jax.Array]]:
        """The result, its aux stacked over layers, and what the tap saved, each `(layer, ...)`."""
        graphdef, params = nnx.split(self.blocks, nnx.Param)
        norm = nnx.split(self.norm, nnx.Param) if hasattr(self, "norm") else None

        def body(x: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
            group, norm_params, branches = inputs
            here = ctx.replace(layer=group)
            read = x if norm is None else nnx.merge(norm[0], norm_params)(x, here)

            def branch(inputs: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
                layer, block_params, key, keep, cache = inputs
                tap = ctx.tap.at(layer)
                inner = here.replace(key=key, keep=keep, cache=cache, tap=tap)
                y, cache, aux = nnx.merge(graphdef, block_params)(read, inner)
                return y, (cache, dict(aux), tap.collect())

            y, outputs = jax.vmap(branch)(branches)
            writes = jnp.sum(y - read[None], axis=0)
            x = x + (writes if self.scale == 1.0 else writes * self.scale)
            return constrain(x, residual_axes(x.ndim)), outputs

        def grouped(leaf: jax.Array) -> jax.Array:
            return leaf.reshape(self.groups, self.branches, *leaf.shape[1:])

        layers = (jnp.arange(self.depth), nnx.to_pure_dict(params), *layer_inputs(ctx, range(self.depth)))
        norm_params = None if norm is None else nnx.to_pure_dict(norm[1])
        inputs = (norm_params, jax.tree.map(grouped, layers))
        x_BTD, outputs = turn(body, x_BTD, range(self.groups), inputs, self.loop, self.remat)
        cache, aux, taps = jax.tree.map(lambda leaf: leaf.reshape(self.depth, *leaf.shape[2:]), outputs)
        return Result(x_BTD, cache, aux), taps

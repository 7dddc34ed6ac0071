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

from arch.answers import Answer, Answers
from arch.blocks.base import Block
from arch.context import Context, Result
from arch.layers.caches import Room
from arch.layers.norms.common import Norm
from arch.params import ParamFactory, merge, stack_layers
from arch.purity import unchanged
from arch.sharding import constrain, residual_axes
from arch.spec import Problem, SpecError, at_least, one_of
from arch.stacks.base import Loop, Pattern, Remat, Stack, check_gates, layer_inputs, run_part, turn, variables
from arch.stacks.sequential import Sequential, SequentialLayer

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

    def build(
        self, block: Block | Pattern, width: int, depth: int, make: ParamFactory
    ) -> SequentialLayer | GroupedLayer:
        if isinstance(block, Pattern):
            told = "must be one block: branches side by side have one shape; use Sequential for a pattern"
            raise SpecError(block, [Problem("", type(block).__name__, told)])
        if self.count(depth) == depth and self.norm is None:  # blocks themselves: x + (block(x) - x) would round
            return SequentialLayer(Sequential(self.loop, self.remat), block, width, depth, make)
        if block.in_sequence:
            told = f"counts layers one after another, which {type(self).__name__} has side by side; use Sequential"
            raise SpecError(block, [Problem("", type(block).__name__, told)])
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
            raise self.invalid("groups", f"must divide the depth {depth} ({divisors})")
        return self.groups


class GroupedLayer(nnx.Module):
    def __init__(self, spec: ParallelStack, block: Block, width: int, depth: int, make: ParamFactory):
        self.loop, self.remat, self.depth = spec.loop, spec.remat, depth
        self.groups = spec.count(depth)
        self.branches = depth // self.groups
        self.scale = self.branches**-0.5 if spec.combine == "root" else 1.0
        self.blocks = stack_layers(lambda layer_make: block.build(width, layer_make), make.at("blocks"), depth)
        if spec.norm is not None:
            norm = spec.norm
            self.norm = stack_layers(lambda group: norm.build(width, group), make.at("norm"), self.groups)

    def init_cache(self, room: Room) -> Any:
        """The caches of all layers, each leaf with a leading L."""
        one = self.blocks.init_cache(room)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.depth, *leaf.shape)), one)

    def __call__(self, x_BTD: Float[Array, "B *T D"], ctx: Context) -> Result:
        """The stream after the last group, and the layers' caches. What the layers' taps saved is `(layer, ...)`."""
        check_gates(ctx.gates, [self.blocks])
        graphdef, stacked = variables(self.blocks)
        norm = variables(self.norm) if hasattr(self, "norm") else None

        def body(x: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
            group, norm_variables, branches = inputs
            here = ctx.replace(layer=group)
            read, told = x, None
            if norm is not None:
                read, told = _normed(norm[0], norm_variables, x, here)

            def branch(inputs: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
                layer, (params, buffers), key, gates, cache = inputs
                inner = here.replace(key=key, gates=gates, cache=cache, tap=ctx.tap.at(layer))
                (y, cache), answer, taps = run_part(graphdef, params, buffers, read, inner)
                return y, (cache, answer, taps)

            y, outputs = jax.vmap(branch)(branches)
            writes = jnp.sum(y - read[None], axis=0)
            x = x + (writes if self.scale == 1.0 else writes * self.scale)
            return constrain(x, residual_axes(x.ndim)), (outputs, told)

        def grouped(leaf: jax.Array) -> jax.Array:
            return leaf.reshape(self.groups, self.branches, *leaf.shape[1:])

        layers = (jnp.arange(self.depth), stacked, *layer_inputs(ctx, range(self.depth)), ctx.cache)
        inputs = (None if norm is None else norm[1], jax.tree.map(grouped, layers))
        x_BTD, (outputs, told) = turn(body, x_BTD, range(self.groups), inputs, self.loop, self.remat)
        cache, answer, taps = jax.tree.map(lambda leaf: leaf.reshape(self.depth, *leaf.shape[2:]), outputs)
        ctx.answers.add(self.blocks, answer)
        if norm is not None:
            ctx.answers.add(self.norm, told)
        ctx.tap.adopt(taps)
        return Result(x_BTD, cache)


def _normed(graphdef: Any, variables: Any, x: jax.Array, ctx: Context) -> tuple[jax.Array, Answer]:
    """What the shared norm of a group makes of the stream, and its answers."""
    part, answers = merge(graphdef, *variables), Answers()
    with unchanged(part):
        y = part(x, ctx.replace(answers=answers))
    return y, answers.collect(part)

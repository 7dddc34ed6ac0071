"""Stacks: how blocks make depth.

`Sequential` applies L blocks in turn, by `lax.scan` over stacked parameters (compile time does not grow with depth) or
unrolled. Both forms share one parameter layout, `stack.blocks.*` with a leading "layers" axis, so a checkpoint of one
opens in the other. Gates, layer indices and dropout keys enter as scanned inputs.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks import Block
from arch.context import Context, Keep, Result
from arch.params import Maker, stack_layers
from arch.sharding import RESIDUAL_AXES, constrain
from arch.spec import Problem, Spec, one_of

Loop = Literal["scan", "unroll"]
Remat = Literal["none", "full", "dots", "dots_no_batch"]
POLICIES: dict[str, Callable[..., Any] | None] = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class Stack(Spec, abc.ABC):
    """Blocks of one signature, composed: `stack(x, ctx) -> Result`."""

    @abc.abstractmethod
    def build(self, block: Block, width: int, depth: int, make: Maker) -> Any:
        """`depth` blocks of `width` as one part."""


@dataclasses.dataclass(frozen=True)
class Sequential(Stack):
    """Blocks one after another.

    Attributes:
      loop: "scan" compiles one block whatever the depth; "unroll" compiles each, and can run faster on CPU.
      remat: what the backward pass recomputes: "none", "full" (everything inside a block), "dots" (all but matrix
        products), "dots_no_batch" (all but products without batch dimensions: the projections).
    """

    loop: Loop = "scan"
    remat: Remat = "none"

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "loop", get_args(Loop))
        yield from one_of(self, "remat", get_args(Remat))

    def build(self, block, width, depth, make):
        return SequentialLayer(self, block, width, depth, make)


class SequentialLayer(nnx.Module):
    def __init__(self, spec: Sequential, block: Block, width: int, depth: int, make: Maker):
        self.loop, self.remat, self.depth = spec.loop, spec.remat, depth
        self.blocks = stack_layers(lambda layer_make: block.build(width, layer_make), make.at("blocks"), depth)

    def init_cache(self, batch: int, length: int, dtype: Any) -> Any:
        """The caches of all layers, each leaf with a leading L."""
        one = self.blocks.init_cache(batch, length, dtype)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.depth, *leaf.shape)), one)

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> tuple[Result, dict[str, jax.Array]]:
        """The result, its aux stacked over layers, and what the tap saved, each `(layer, ...)`."""
        graphdef, params = nnx.split(self.blocks, nnx.Param)

        def body(x: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
            block_params, layer, key, keep, cache = inputs
            tap = ctx.tap.at(layer)
            inner = ctx.replace(layer=layer, key=key, keep=keep, cache=cache, tap=tap)
            x, cache, aux = nnx.merge(graphdef, block_params)(x, inner)
            return constrain(x, RESIDUAL_AXES), (cache, dict(aux), tap.collect())

        if self.remat != "none":
            body = jax.checkpoint(body, policy=POLICIES[self.remat], prevent_cse=self.loop == "unroll")
        layers = jnp.arange(self.depth)
        keys = None if ctx.key is None else jax.vmap(jax.random.fold_in, (None, 0))(ctx.key, layers)
        inputs = (nnx.to_pure_dict(params), layers, keys, _per_layer(ctx.keep, self.depth), ctx.cache)
        if self.loop == "scan":
            x_BTD, (cache, aux, taps) = jax.lax.scan(body, x_BTD, inputs)
        else:
            outputs = []
            for layer, one in enumerate(unstack(inputs, self.depth)):
                x_BTD, output = body(x_BTD, (one[0], layer, *one[2:]))
                outputs.append(output)
            cache, aux, taps = jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
        return Result(x_BTD, cache, aux), taps


def unstack(tree: Any, depth: int) -> list[Any]:
    """The `depth` slices of every leaf along its first axis. The gradient is one concatenation, not L padded sums."""
    leaves, structure = jax.tree.flatten(tree)
    columns = [[piece[0] for piece in jax.lax.split(leaf, [1] * depth)] for leaf in leaves]
    return [jax.tree.unflatten(structure, [column[layer] for column in columns]) for layer in range(depth)]


def _per_layer(keep: Keep, depth: int) -> Keep:
    """The gates as scanned inputs, checked to have one entry a layer."""
    gates = [None if gate is None else jnp.asarray(gate) for gate in keep]
    for name, gate in zip(Keep._fields, gates, strict=True):
        if gate is not None and gate.shape[:1] != (depth,):
            raise ValueError(f"keep.{name} has shape {gate.shape}; it needs one gate for each of {depth} layers")
    return Keep(*gates)

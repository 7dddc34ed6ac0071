"""Stacks: how blocks make depth.

`Sequential` applies L blocks in turn, by `lax.scan` over stacked parameters (compile time does not grow with depth) or
unrolled. Both forms share one parameter layout, `stack.blocks.*` with a leading "layers" axis, so a checkpoint of one
opens in the other. Gates, layer indices and dropout keys enter as scanned inputs.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks import Block
from arch.context import Context, Keep, Result
from arch.params import Maker, stack_layers
from arch.sharding import constrain, residual_axes
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
class Kept(Spec):
    """Which layers of a deeper model these are: each keeps its index there, and whatever depends on it.

    Attributes:
      indices: 0-based, in the order they are applied.
      of: L of the model they were taken from.
    """

    indices: tuple[int, ...]
    of: int

    def problems(self) -> Iterator[Problem]:
        if not self.indices or any(not 0 <= index < self.of for index in self.indices):
            yield Problem("indices", self.indices, f"must be layers of the {self.of}, 0 to {self.of - 1}")


@dataclasses.dataclass(frozen=True)
class Sequential(Stack):
    """Blocks one after another.

    Attributes:
      loop: "scan" compiles one block whatever the depth; "unroll" compiles each, and can run faster on CPU.
      remat: what the backward pass recomputes: "none", "full" (everything inside a block), "dots" (all but matrix
        products), "dots_no_batch" (all but products without batch dimensions: the projections).
      kept: for a model that was cut out of a deeper one, its layers there; None: all L layers of its own.
    """

    loop: Loop = "scan"
    remat: Remat = "none"
    kept: Kept | None = None

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "loop", get_args(Loop))
        yield from one_of(self, "remat", get_args(Remat))

    def build(self, block, width, depth, make):
        if self.kept is not None and len(self.kept.indices) != depth:
            raise self.refuse("kept", f"must name {depth} layers, the depth of the model")
        return SequentialLayer(self, block, width, depth, make)


class SequentialLayer(nnx.Module):
    def __init__(self, spec: Sequential, block: Block, width: int, depth: int, make: Maker):
        self.loop, self.remat, self.depth = spec.loop, spec.remat, depth
        self.indices = tuple(range(depth)) if spec.kept is None else spec.kept.indices
        total = depth if spec.kept is None else spec.kept.of
        make = make.at("blocks")
        self.blocks = stack_layers(lambda layer_make: block.build(width, layer_make), make, total, self.indices)

    def init_cache(self, batch: int, length: int, dtype: Any) -> Any:
        """The caches of all layers, each leaf with a leading L."""
        one = self.blocks.init_cache(batch, length, dtype)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.depth, *leaf.shape)), one)

    def __call__(self, x_BTD: Float[Array, "B *T D"], ctx: Context) -> tuple[Result, dict[str, jax.Array]]:
        """The result, its aux stacked over layers, and what the tap saved, each `(layer, ...)`."""
        graphdef, params = nnx.split(self.blocks, nnx.Param)

        def body(x: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
            layer, block_params, key, keep, cache = inputs
            tap = ctx.tap.at(layer)
            inner = ctx.replace(layer=layer, key=key, keep=keep, cache=cache, tap=tap)
            x, cache, aux = nnx.merge(graphdef, block_params)(x, inner)
            return constrain(x, residual_axes(x.ndim)), (cache, dict(aux), tap.collect())

        inputs = (nnx.to_pure_dict(params), *layer_inputs(ctx, self.indices))
        x_BTD, (cache, aux, taps) = turn(body, x_BTD, self.indices, inputs, self.loop, self.remat)
        return Result(x_BTD, cache, aux), taps


def turn(
    body: Callable[..., tuple[jax.Array, Any]],
    x: jax.Array,
    numbers: Sequence[int],
    inputs: tuple[Any, ...],
    loop: Loop,
    remat: Remat,
) -> tuple[jax.Array, Any]:
    """`body(x, (number, *inputs of this turn)) -> (x, outputs)` for each of `numbers`; the last x, the outputs stacked.

    Every leaf of `inputs` has a leading axis, one entry a turn. The number is an int unrolled, and traced under scan.
    """
    if remat != "none":
        body = jax.checkpoint(body, policy=POLICIES[remat], prevent_cse=loop == "unroll")
    if loop == "scan":
        return jax.lax.scan(body, x, (jnp.asarray(tuple(numbers)), *inputs))
    outputs = []
    for number, one in zip(numbers, unstack(inputs, len(numbers)), strict=True):
        x, output = body(x, (number, *one))
        outputs.append(output)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def layer_inputs(ctx: Context, layers: Sequence[int]) -> tuple[Any, Keep, Any]:
    """What each of `layers` is given of the context: dropout keys, gates, caches, all with a leading L."""
    keys = None if ctx.key is None else jax.vmap(jax.random.fold_in, (None, 0))(ctx.key, jnp.asarray(tuple(layers)))
    return keys, _per_layer(ctx.keep, len(layers)), ctx.cache


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

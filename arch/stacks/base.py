"""Stacks: how blocks make depth, and which block each layer is."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from arch.answers import Answer, Answers
from arch.blocks.base import Block
from arch.context import Context, Gates, Result
from arch.params import ParamFactory, merge, split
from arch.purity import unchanged
from arch.spec import Problem, Spec

Loop = Literal["scan", "unroll"]
Remat = Literal["none", "full", "dots", "dots_no_batch"]
POLICIES: dict[str, Callable[..., Any] | None] = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class Pattern(Spec, abc.ABC):
    """Which block each layer of a stack is; stands where a block does: `Decoder(block=Cycle((local, local, full)))`."""

    @abc.abstractmethod
    def layers(self, depth: int) -> tuple[Block, ...]:
        """The block of each of `depth` layers, first layer first. Raises SpecError for a depth that does not fit."""

    @property
    @abc.abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The different blocks, whatever the depth."""

    def with_blocks(self, change: Callable[[Block], Block]) -> Pattern:
        """The same pattern of changed blocks."""

        def changed(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(changed, value))
            return change(value) if isinstance(value, Block) else value

        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: changed(value) for name, value in fields.items()})

    @property
    def causal(self) -> bool | None:
        """Whether no token's output depends on later tokens; None: a block does not say."""
        told = [block.causal for block in self.blocks]
        return False if False in told else None if None in told else True


@dataclasses.dataclass(frozen=True)
class Stack(Spec, abc.ABC):
    """Blocks of one signature, composed: `stack(x, ctx) -> Result`."""

    @abc.abstractmethod
    def build(self, block: Block | Pattern, width: int, depth: int, make: ParamFactory) -> Any:
        """`depth` blocks of `width` as one part."""


@dataclasses.dataclass(frozen=True)
class LayerSubset(Spec):
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


def run_part(
    graphdef: Any, params: Any, buffers: Any, x: jax.Array, ctx: Context
) -> tuple[Result, Answer, dict[str, Any]]:
    """One layer, made of its parameters and buffers and called: its result, its answers and what the tap saved."""
    part = merge(graphdef, params, buffers)
    answers = Answers()
    with unchanged(part):
        result = part(x, ctx.replace(answers=answers))
    return result, answers.collect(part), ctx.tap.collect()


def variables(module: nnx.Module) -> tuple[Any, tuple[Any, Any]]:
    """(graph, (parameters, buffers)) of layers that are stacked."""
    graphdef, params, buffers = split(module)
    return graphdef, (params, buffers)


def turn(
    body: Callable[..., tuple[jax.Array, Any]],
    x: jax.Array,
    numbers: Sequence[Any],
    inputs: tuple[Any, ...],
    loop: Loop,
    remat: Remat,
) -> tuple[jax.Array, Any]:
    """`body(x, (number, *inputs of this turn)) -> (x, outputs)` for each of `numbers`; the last x, the outputs stacked.

    Every leaf of `inputs` has a leading axis, one entry a turn. A number is an int, or a tuple of them, unrolled, and
    traced under scan.
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


def layer_inputs(ctx: Context, layers: Sequence[int]) -> tuple[Any, Gates]:
    """What each of `layers` is given of the context: dropout keys and gates, all with a leading L."""
    keys = None if ctx.key is None else jax.vmap(jax.random.fold_in, (None, 0))(ctx.key, jnp.asarray(tuple(layers)))
    return keys, _per_layer(ctx.gates, len(layers))


def unstack(tree: Any, depth: int) -> list[Any]:
    """The `depth` slices of every leaf along its first axis. The gradient is one concatenation, not L padded sums."""
    leaves, structure = jax.tree.flatten(tree)
    columns = [[piece[0] for piece in jax.lax.split(leaf, [1] * depth)] for leaf in leaves]
    return [jax.tree.unflatten(structure, [column[layer] for column in columns]) for layer in range(depth)]


def check_gates(gates: Mapping[str, Any], layers: Sequence[nnx.Module], others: Sequence[str] = ()) -> None:
    """Refuses a gate on a sublayer, or on a site with a bottleneck, that neither `layers` nor `others` have. Raises
    ValueError."""
    known = {
        "block",
        *others,
        *(name for layer in layers for kind in ("names", "sites") for name in getattr(layer, kind, ())),
    }
    unknown = [name for name in gates if name not in known]
    if unknown:
        raise ValueError(f"gates are given for {', '.join(unknown)}; the layers have {', '.join(sorted(known))}")


def _per_layer(gates: Gates, depth: int) -> Gates:
    """The gates as scanned inputs, checked to have one entry a layer."""
    arrays = {name: jnp.asarray(gate) for name, gate in gates.items()}
    for name, gate in arrays.items():
        if gate.shape[:1] != (depth,):
            raise ValueError(f"gates.{name} has shape {gate.shape}; it needs one gate for each of {depth} layers")
    return Gates(arrays)

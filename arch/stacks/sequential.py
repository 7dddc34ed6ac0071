"""Blocks one after another, by `lax.scan` over stacked parameters (compile time does not grow with depth) or unrolled.

Both forms share one parameter layout, so a checkpoint of one opens in the other. L layers of one block are
`stack.blocks.*` with a leading "layers" axis; a pattern is `stack.sections.I.J.*`, section I being a loop and J the
place in its period, with a leading axis of the turns. Gates, layer indices and dropout keys enter as scanned inputs.
Bottlenecks stand between layers, and no loop goes across them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks.base import Block
from arch.bottlenecks.base import Bottleneck
from arch.context import Context, Gates, Result, gate
from arch.layers.caches import Room
from arch.params import ParamFactory, stack_layers
from arch.sharding import constrain, residual_axes
from arch.spec import Problem, one_of
from arch.stacks.apart import FEW, Apart, turns
from arch.stacks.base import (
    LayerSubset,
    Loop,
    Pattern,
    Remat,
    Stack,
    check_gates,
    layer_inputs,
    run_part,
    turn,
    variables,
)
from arch.stacks.patterns import Section, sections


@dataclasses.dataclass(frozen=True)
class Sequential(Stack):
    """Blocks one after another.

    Attributes:
      loop: "scan" compiles one block (one period of a pattern) whatever the depth; "unroll" compiles each, and can run
        faster on CPU.
      remat: what the backward pass recomputes: "none", "full" (everything inside a block), "dots" (all but matrix
        products), "dots_no_batch" (all but products without batch dimensions: the projections).
      kept: for a model that was cut out of a deeper one, its layers there; None: all L layers of its own.
      between: (number of layers, bottleneck) pairs: the stream passes the bottleneck after so many layers.
    """

    loop: Loop = "scan"
    remat: Remat = "none"
    kept: LayerSubset | None = None
    between: tuple[tuple[int, Bottleneck], ...] = ()

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "loop", get_args(Loop))
        yield from one_of(self, "remat", get_args(Remat))
        if len({after for after, _ in self.between}) < len(self.between):
            yield Problem("between", self.between, "must have one bottleneck at a place")

    def build(self, block, width, depth, make):
        if self.kept is not None and len(self.kept.indices) != depth:
            raise self.invalid("kept", f"must name {depth} layers, the depth of the model")
        for after, _ in self.between:
            if not 0 <= after <= depth:
                raise self.invalid("between", f"must stand after 0 to {depth} layers, not {after}")
        return SequentialLayer(self, block, width, depth, make)


class SequentialLayer(nnx.Module):
    def __init__(self, spec: Sequential, block: Block | Pattern, width: int, depth: int, make: ParamFactory):
        self.loop, self.remat, self.depth = spec.loop, spec.remat, depth
        self.indices = tuple(range(depth)) if spec.kept is None else spec.kept.indices
        self.total = depth if spec.kept is None else spec.kept.of
        of_all = block.layers(self.total) if isinstance(block, Pattern) else (block,) * self.total
        found = sections([of_all[index] for index in self.indices], [after for after, _ in spec.between])
        self.spans = tuple((one.first, len(one.period), one.repeats) for one in found)
        self.plain = len(found) == 1 and len(found[0].period) == 1
        if self.plain:
            self.blocks = self._stacked(found[0], 0, width, make)
        else:
            self.sections = nnx.Dict({
                str(i): nnx.Dict({str(j): self._stacked(one, j, width, make) for j in range(len(one.period))})
                for i, one in enumerate(found)
            })  # fmt: skip
        if spec.between:
            self.between = nnx.Dict({
                str(after): part.build(width, make.at("between").at(str(after))) for after, part in spec.between
            })  # fmt: skip

    def _stacked(self, section: Section, place: int, width: int, make: ParamFactory) -> Any:
        block, layers = section.period[place], [self.indices[layer] for layer in section.layers(place)]
        return stack_layers(lambda one: block.build(width, one), make.at("blocks"), self.total, layers)

    def loops(self) -> list[tuple[Section, list[Any]]]:
        """Each loop of the stack: its section (without specs) and the stacked blocks of its period."""
        named = [Section(first, (None,) * size, repeats) for first, size, repeats in self.spans]  # type: ignore[arg-type]
        if self.plain:
            return [(named[0], [self.blocks])]
        return [(one, [self.sections[str(i)][str(j)] for j in range(len(one.period))]) for i, one in enumerate(named)]

    def init_cache(self, room: Room) -> Any:
        """The caches of all layers, each leaf with a leading axis of layers, in the structure of the blocks."""

        def of(blocks: Any, repeats: int) -> Any:
            one = blocks.init_cache(room)
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (repeats, *leaf.shape)), one)

        return self._arranged([[of(blocks, one.repeats) for blocks in period] for one, period in self.loops()])

    def apart(self, caches: Any) -> Any:
        """The caches with the arrays of each layer on their own (`stacks.apart`)."""
        if self.plain:
            return Apart.of(caches)
        return {i: {j: Apart.of(one) for j, one in period.items()} for i, period in caches.items()}

    def _arranged(self, caches: list[list[Any]]) -> Any:
        if self.plain:
            return caches[0][0]
        return {str(i): {str(j): cache for j, cache in enumerate(period)} for i, period in enumerate(caches)}

    def __call__(self, x_BTD: Float[Array, "B *T D"], ctx: Context) -> Result:
        """The stream after the last layer, and the layers' caches. What the layers' taps saved is `(layer, ...)`."""
        loops = self.loops()
        places = [f"between_{after}" for after in getattr(self, "between", ())]
        check_gates(ctx.gates, [blocks for _, period in loops for blocks in period], places)
        inner = ctx.replace(gates=Gates({name: of for name, of in ctx.gates.items() if name not in places}))
        keys, gates = layer_inputs(inner, self.indices)
        caches: list[list[Any]] = []
        saved: list[tuple[list[int], dict[str, jax.Array]]] = []
        x_BTD = self._bottleneck(0, x_BTD, ctx)
        for number, (section, period) in enumerate(loops):
            cache = None
            if ctx.cache is not None:
                cache = ctx.cache if self.plain else ctx.cache[str(number)]
                cache = [cache] if self.plain else [cache[str(place)] for place in range(len(period))]
            x_BTD, outputs = self._run(section, period, x_BTD, ctx, keys, gates, cache)
            caches.append([])
            for place, (blocks, (after, answer, taps)) in enumerate(zip(period, outputs, strict=True)):
                caches[-1].append(after)
                ctx.answers.add(blocks, answer)
                saved.append((list(section.layers(place)), taps))
            x_BTD = self._bottleneck(section.first + len(period) * section.repeats, x_BTD, ctx)
        ctx.tap.adopt(in_order(saved))
        return Result(x_BTD, None if ctx.cache is None else self._arranged(caches))

    def _run(
        self, section: Section, period: list[Any], x: jax.Array, ctx: Context, keys: Any, gates: Any, cache: Any
    ) -> tuple[jax.Array, list[Any]]:
        """One loop: the stream after it, and for each place of the period its outputs stacked over turns."""
        graphs, stacked = zip(*(variables(blocks) for blocks in period), strict=True)
        apart = cache is not None and isinstance(cache[0], Apart)
        if apart and x.shape[1] > FEW:
            x, outputs = self._run(section, period, x, ctx, keys, gates, [one.stacked() for one in cache])
            return x, [(Apart.of(after), *rest) for after, *rest in outputs]
        places = [section.layers(place) for place in range(len(period))]

        def body(x: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, list[Any]]:
            layers, each = inputs
            outputs = []
            for place, (graphdef, one) in enumerate(zip(graphs, each, strict=True)):
                (params, buffers), key, gates, cache = one
                if cache is not None and (apart or self.loop == "unroll"):
                    # XLA takes a layer's slice out of a loop over tokens only if something behind it goes along; left
                    # in there, the weights of all layers are copied for every token.
                    params = jax.lax.optimization_barrier(params)
                layer = layers[place]
                inner = ctx.replace(layer=layer, key=key, gates=gates, cache=cache, tap=ctx.tap.at(layer))
                (x, after), answer, taps = run_part(graphdef, params, buffers, x, inner)
                x = constrain(x, residual_axes(x.ndim))
                outputs.append((after, answer, taps))
            return x, outputs

        def mine(tree: Any, layers: range) -> Any:
            """Of arrays with one entry a layer, those of `layers`."""
            if len(layers) == self.depth:
                return tree
            return jax.tree.map(lambda leaf: leaf[layers.start : layers.stop : layers.step], tree)

        given = [(stacked[place], mine(keys, layers), mine(gates, layers)) for place, layers in enumerate(places)]
        numbers = [tuple(self.indices[layer] for layer in turns) for turns in zip(*places, strict=True)]
        if apart:
            return turns(body, x, numbers, given, cache)
        each = [(*one, None if cache is None else cache[place]) for place, one in enumerate(given)]
        return turn(body, x, numbers, (each,), self.loop, self.remat)

    def _bottleneck(self, after: int, x: jax.Array, ctx: Context) -> jax.Array:
        """What stands after so many layers, if something does. Its tap site is `between_N.out`, and its gate
        `Gates(between_N=...)`, `[1]` or `[1, B, T]`; where that is closed, the stream is what it was, bit for bit."""
        if not hasattr(self, "between") or str(after) not in self.between:
            return x
        name = f"between_{after}"
        given = ctx.gates.get(name)
        if given is not None and jnp.shape(given)[:1] != (1,):
            raise ValueError(f"gates.{name} has shape {jnp.shape(given)}; it needs one gate, [1], for it is there once")
        inner = ctx.replace(layer=after, cache=None).scope(name)
        y = gate(None if given is None else given[0], self.between[str(after)](x, inner), x)
        return inner.tap("out", y)


def in_order(saved: Sequence[tuple[list[int], dict[str, jax.Array]]]) -> dict[str, Any]:
    """What loops saved, by site: the layers that have the site in order, `(layer, ...)`; a tuple with one array a layer
    where their shapes differ."""
    together: dict[str, Any] = {}
    if len(saved) == 1:
        return saved[0][1]
    for site in sorted({site for _, taps in saved for site in taps}):
        having = [(layers, taps[site]) for layers, taps in saved if site in taps]
        layers = [layer for some, _ in having for layer in some]
        order = sorted(range(len(layers)), key=layers.__getitem__)
        if len({values.shape[1:] for _, values in having}) == 1:
            together[site] = jnp.concatenate([values for _, values in having])[jnp.asarray(order)]
        else:
            rows = [row for _, values in having for row in values]
            together[site] = tuple(rows[place] for place in order)
    return together

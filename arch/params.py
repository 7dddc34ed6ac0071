"""How parameters and buffers come to be: named keys, initialiser, logical axes.

A `ParamFactory` makes parameters. Its random key is folded with the names on the way to the parameter, so the value
of a parameter depends on the seed, its path and its layer alone: two arms of a study that share a part start from
the same numbers there, whatever else differs.

A buffer is state that no gradient reaches: codebook counts, running means, router biases, fixed projections, EMA
copies. It is declared like a parameter and lives beside the parameters in the state of a run. Its part notes sums
over rows (`ctx.answer(self, statistics=...)`) and has `advance(buffers, sums) -> buffers`, pure, called once a step.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

if TYPE_CHECKING:
    from arch.layers.init.initializers import Initializer

Axes = tuple[str | None, ...]
Size = tuple[int, str | None]
"""A dimension of a parameter: its size and its logical axis, e.g. `(512, "embed")`."""

Tree = Mapping[str, Any]
"""Nested dict of arrays, by the names on the way to them."""


class Buffer(nnx.Variable):
    """State of a part that is neither a parameter nor the optimiser's."""


@dataclasses.dataclass(frozen=True)
class ParamFactory:
    """Makes parameters and buffers in one scope of a model.

    Attributes:
      key: PRNG key of this scope.
      init: the model's initialiser, called for every weight (gains and biases start from constants).
      depth: L, the number of layers of the stack being built; initialisers scale by it.
      layer: index of the layer being built, 0-based; traced while a stack is built.
    """

    key: jax.Array
    init: Initializer
    depth: int = 1
    layer: int | jax.Array = 0

    def at(self, name: str) -> ParamFactory:
        """The maker of the part called `name` below this one."""
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, zlib.crc32(name.encode())))

    def at_layer(self, layer: int | jax.Array, depth: int) -> ParamFactory:
        """The maker of one layer in a stack of `depth`."""
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, layer), layer=layer, depth=depth)

    def weight(self, name: str, inputs: Sequence[Size], outputs: Sequence[Size], role: str = "linear") -> nnx.Param:
        """A weight of shape `inputs + outputs`, drawn by the initialiser.

        `role` says what the weight is for: "embedding", "position", "linear", "value" (of attention), "feed_forward"
        (into its hidden layer), "residual" (writes into the residual stream), "head", "transform" (of the last states,
        before a head) or "codebook". The sizes of `inputs` multiply to the fan-in.
        """
        sizes = (*inputs, *outputs)
        shape = tuple(size for size, _ in sizes)
        fan_in = 1
        for size, _ in inputs:
            fan_in *= size
        value = self.init(self.at(name).key, shape, role=role, fan_in=fan_in, depth=self.depth, layer=self.layer)
        return nnx.Param(value, axes=tuple(axis for _, axis in sizes), initializer=self.init.describe(role), role=role)

    def constant(self, sizes: Sequence[Size], value: float) -> nnx.Param:
        """A parameter that starts at `value` everywhere: gains, biases."""
        return self.array(sizes, value, f"constant({value:g})")

    def array(
        self, sizes: Sequence[Size], value: jax.typing.ArrayLike, initializer: str, role: str = "constant"
    ) -> nnx.Param:
        """A parameter that starts at `value`, an array of `sizes` or what fills one; `initializer` tells of it in the
        parameter table."""
        return nnx.Param(_filled(sizes, value), axes=_axes(sizes), initializer=initializer, role=role)

    def buffer(
        self, sizes: Sequence[Size], value: jax.typing.ArrayLike, initializer: str = "", role: str = "buffer"
    ) -> Buffer:
        """A buffer that starts at `value`, an array of `sizes` (float32 or an integer type) or a number that fills
        one. Random ones draw from `make.at(name).key`."""
        told = initializer or (f"constant({value:g})" if isinstance(value, (int, float)) else "array")
        return Buffer(_filled(sizes, value), axes=_axes(sizes), initializer=told, role=role)


def _axes(sizes: Sequence[Size]) -> Axes:
    return tuple(axis for _, axis in sizes)


def _filled(sizes: Sequence[Size], value: jax.typing.ArrayLike) -> jax.Array:
    array = jnp.asarray(value, jnp.float32) if isinstance(value, (int, float)) else jnp.asarray(value)
    return jnp.broadcast_to(array, tuple(size for size, _ in sizes))


def stack_layers(
    build: Callable[[ParamFactory], nnx.Module], make: ParamFactory, depth: int, layers: Sequence[int] | None = None
) -> Any:
    """Modules of one shape as one module whose parameters and buffers have a leading "layers" axis.

    They are all `depth` layers, or those called `layers` (0-based) of them.
    """
    indices = jnp.arange(depth) if layers is None else jnp.asarray(layers)
    built = nnx.vmap(lambda layer: build(make.at_layer(layer, depth)))(indices)
    for _, variable in nnx.iter_graph(built):
        if isinstance(variable, (nnx.Param, Buffer)):
            variable.set_metadata(axes=("layers", *variable.get_metadata()["axes"]))
    return built


def stack_copies(build: Callable[[ParamFactory], nnx.Module], make: ParamFactory, count: int, axis: str | None) -> Any:
    """`count` modules of one shape side by side in a layer, each with random numbers of its own, as one module whose
    parameters and buffers have a leading axis called `axis`."""
    built = nnx.vmap(lambda copy: build(dataclasses.replace(make, key=jax.random.fold_in(make.key, copy))))(
        jnp.arange(count)
    )
    for _, variable in nnx.iter_graph(built):
        if isinstance(variable, (nnx.Param, Buffer)):
            variable.set_metadata(axes=(axis, *variable.get_metadata()["axes"]))
    return built


def split(module: nnx.Module) -> tuple[Any, Tree, Tree]:
    """(graph, parameters, buffers) of a module, built or abstract. Raises TypeError for a variable of another kind."""
    try:
        graphdef, *states = nnx.split(module, nnx.Param, Buffer)
    except ValueError as error:
        raise TypeError(
            f"{type(module).__name__} holds a variable that is neither made by ParamFactory.weight, constant or array, "
            f"nor by ParamFactory.buffer ({error})"
        ) from error
    params, buffers = (nnx.to_pure_dict(state) for state in states)
    return graphdef, params, buffers


def merge(graphdef: Any, params: Tree, buffers: Tree) -> Any:
    """The module of a graph with these parameters and buffers."""
    return nnx.merge(graphdef, params, buffers) if buffers else nnx.merge(graphdef, params)


def metadata(module: nnx.Module, kind: type[nnx.Variable] = nnx.Param) -> dict[str, dict[str, Any]]:
    """Path -> {shape, axes, initializer, role} of every parameter (or `Buffer`); works on abstract modules too."""
    table = {}
    for path, variable in nnx.to_flat_state(nnx.state(module, kind)):
        extra = variable.get_metadata()
        table[".".join(map(str, path))] = {
            "shape": tuple(variable.shape),
            "axes": tuple(extra["axes"]),
            "initializer": extra["initializer"],
            "role": extra["role"],
        }
    return table


def logical_axes(module: nnx.Module, kind: type[nnx.Variable] = nnx.Param) -> Tree:
    """The logical axes of every parameter (or `Buffer`), in the structure of the parameters."""
    return nest({path: row["axes"] for path, row in metadata(module, kind).items()})


def roles(module: nnx.Module) -> dict[str, str]:
    """Path -> what each parameter is for."""
    return {path: row["role"] for path, row in metadata(module).items()}


def nest(flat: dict[str, Any]) -> Tree:
    """Dotted path -> value as nested dicts."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *above, name = path.split(".")
        node = nested
        for key in above:
            node = node.setdefault(key, {})
        node[name] = value
    return nested

"""How parameters come to be: named keys, initialiser, logical axes.

A `Maker` hands out parameters. Its random key is folded with the names on the way to the parameter, so the value
of a parameter depends on the seed, its path and its layer alone: two arms of a study that share a part start from
the same numbers there, whatever else differs.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

if TYPE_CHECKING:
    from arch.layers.initializers import Initializer

Axes = tuple[str | None, ...]
Size = tuple[int, str | None]
"""A dimension of a parameter: its size and its logical axis, e.g. `(512, "embed")`."""


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes parameters in one scope of a model.

    Attributes:
      key: PRNG key of this scope.
      init: the model's initialiser, asked for every weight (gains and biases start from constants).
      depth: L, the number of layers of the stack being built; initialisers scale by it.
      layer: index of the layer being built, 0-based; traced while a stack is built.
    """

    key: jax.Array
    init: Initializer
    depth: int = 1
    layer: int | jax.Array = 0

    def at(self, name: str) -> Maker:
        """The maker of the part called `name` below this one."""
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, zlib.crc32(name.encode())))

    def at_layer(self, layer: int | jax.Array, depth: int) -> Maker:
        """The maker of one layer in a stack of `depth`."""
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, layer), layer=layer, depth=depth)

    def weight(self, name: str, inputs: Sequence[Size], outputs: Sequence[Size], role: str = "linear") -> nnx.Param:
        """A weight of shape `inputs + outputs`, drawn by the initialiser.

        `role` says what the weight is for: "embedding", "position", "linear", "value" (of attention), "feed_forward"
        (into its hidden layer), "residual" (writes into the residual stream) or "head". The sizes of `inputs` multiply
        to the fan-in.
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
        shape = tuple(size for size, _ in sizes)
        axes = tuple(axis for _, axis in sizes)
        return nnx.Param(
            jnp.full(shape, value, jnp.float32), axes=axes, initializer=f"constant({value:g})", role="constant"
        )


def stack_layers(
    build: Callable[[Maker], nnx.Module], make: Maker, depth: int, layers: Sequence[int] | None = None
) -> Any:
    """Modules of one shape as one module whose parameters have a leading "layers" axis.

    They are all `depth` layers, or those called `layers` (0-based) of them.
    """
    indices = jnp.arange(depth) if layers is None else jnp.asarray(layers)
    built = nnx.vmap(lambda layer: build(make.at_layer(layer, depth)))(indices)
    for _, param in nnx.iter_graph(built):
        if isinstance(param, nnx.Param):
            param.set_metadata(axes=("layers", *param.get_metadata()["axes"]))
    return built


def metadata(module: nnx.Module) -> dict[str, dict[str, Any]]:
    """Path -> {shape, axes, initializer, role} of every parameter; works on abstract modules (`nnx.eval_shape`)."""
    table = {}
    for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        extra = param.get_metadata()
        table[".".join(map(str, path))] = {
            "shape": tuple(param.shape),
            "axes": tuple(extra["axes"]),
            "initializer": extra["initializer"],
            "role": extra["role"],
        }
    return table

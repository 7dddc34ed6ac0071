"""Where arrays go on a mesh: parameters, batches, and the activations of a network while it is traced."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from arch.params import Axes
from arch.sharding import Placement, RowsCoupled
from train.sharding.axes import AXES, over, partition


def shardings(mesh: jax.sharding.Mesh, axes: Any, shapes: Any) -> Any:
    """The sharding of every array of a tree. `axes` has a tuple of logical axes for each array of `shapes`."""

    def place(keys: tuple[Any, ...], leaf: Any, names: Axes) -> NamedSharding:
        path = ".".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in keys)
        return NamedSharding(mesh, partition(path, names, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(place, shapes, axes)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh, stacked: bool = False) -> NamedSharding:
    """Rows split over data and fsdp; `stacked`: rows are the second axis."""
    return NamedSharding(mesh, PartitionSpec(None, AXES["batch"]) if stacked else PartitionSpec(AXES["batch"]))


def place_batch(mesh: jax.sharding.Mesh, batch: Mapping[str, np.ndarray], stacked: bool = False) -> dict[str, Any]:
    """This process's rows of a batch as the global batch, for a function compiled with `batch_sharding`.

    Where a single process holds all rows they stay as they are: the call of the function places them, sooner than
    anything that Python could do before it.
    """
    if jax.process_count() == 1:
        return dict(batch)
    sharding, rows = batch_sharding(mesh, stacked), int(stacked)

    def whole(array: np.ndarray) -> jax.Array:
        shape = (*array.shape[:rows], array.shape[rows] * jax.process_count(), *array.shape[rows + 1 :])
        return jax.make_array_from_process_local_data(sharding, array, shape)

    return {name: whole(array) for name, array in batch.items()}


@dataclasses.dataclass(frozen=True)
class MeshPlacement(Placement):
    """A mesh for `arch.sharding.activations`. Does nothing on a single device.

    `lonely`: this is what one device does by itself, on its own rows of a batch.
    """

    mesh: jax.sharding.Mesh
    lonely: bool = False

    @property
    def platform(self) -> str:  # type: ignore[override]
        return self.mesh.devices.flat[0].platform

    def __call__(self, x: jax.Array, axes: Axes) -> jax.Array:
        if self.mesh.size == 1:
            return x
        spec = partition("an activation", axes, x.shape, self.mesh)
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

    def parts(self, axis: str) -> int:
        return math.prod(self.mesh.shape[name] for name in over(axis, "an activation"))

    @property
    def adds_rows(self) -> bool:
        """Whether devices had better work on their own rows alone and add up once, by `add_rows`.

        On CPUs, where only rows are split. XLA's CPU backend would exchange every gradient by itself, and the devices
        wait for each other every time.
        """
        sizes = self.mesh.shape
        return self.platform == "cpu" and sizes["data"] > 1 and sizes["fsdp"] == sizes["tensor"] == 1

    def alone(self) -> MeshPlacement:
        """The placement of what one device does by itself."""
        one = self.mesh.devices.reshape(-1)[:1].reshape((1,) * self.mesh.devices.ndim)
        return MeshPlacement(jax.sharding.Mesh(one, self.mesh.axis_names), lonely=True)

    def couple_rows(self) -> None:
        if self.lonely:
            raise RowsCoupled

    def add_rows(self, fn: Callable[[Any, Any], Any], whole: Any, rows: Any) -> Any:
        """`fn(whole, rows)` by every device on its own of the `rows`, and the sum of the results, in one exchange.

        XLA makes one exchange of several arrays of it. `fn` returns a tree of sums over rows, and must not place
        anything on this mesh.
        """

        def each(whole: Any, rows: Any) -> Any:
            return jax.lax.psum(fn(whole, rows), AXES["batch"])

        specs = PartitionSpec(), PartitionSpec(AXES["batch"])
        run = jax.shard_map(each, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
        return run(whole, rows)

    def split(self, fn: Callable[..., jax.Array], inputs: Sequence[Axes], output: Axes) -> Callable[..., jax.Array]:
        if self.mesh.size == 1:
            return fn

        def spec(axes: Axes) -> PartitionSpec:
            return PartitionSpec(*(over(axis, "an activation") or None for axis in axes))

        specs = tuple(spec(axes) for axes in inputs)
        return jax.shard_map(fn, mesh=self.mesh, in_specs=specs, out_specs=spec(output), check_vma=False)

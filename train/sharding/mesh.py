"""The mesh: how devices are laid out, and where the axes of arrays go on them.

Parts of a model name the logical axes of their parameters and activations; AXES says over which axes of the mesh each
is split. A new part brings its sharding by its names alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from arch.params import Axes
from arch.sharding import Axis, Placement, RowsCoupled
from arch.spec import Problem, Spec, UserError, at_least

NAMES = ("replica", "data", "fsdp", "tensor")
AXES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "kv": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "codes": ("tensor",),
    "replica": ("replica",),
    "layers": (),
    "head_dim": (),
    "length": (),
    "residual": (),
}
"""Logical axis -> mesh axes."""

COPIED_IF_UNEVEN = ("kv",)
"""Logical axes that are copied to every device where the mesh does not divide them: key-value heads are often fewer
than the devices that share the query heads. Any other axis that the mesh does not divide is an error."""


@dataclasses.dataclass(frozen=True)
class Mesh(Spec):
    """How devices are laid out.

    Attributes:
      replica: members of an ensemble side by side.
      data: parts of the batch; -1: whatever devices the other three leave.
      fsdp: parts of the batch and of every parameter's `embed` axis, which are gathered when they are needed.
      tensor: parts of heads, feed-forward, vocabulary and codes.
    """

    replica: int = 1
    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "replica", "fsdp", "tensor")
        if self.data != -1:
            yield from at_least(self, 1, "data")

    def shape(self, device_count: int) -> tuple[int, int, int, int]:
        """Sizes along NAMES on `device_count` devices. Raises SpecError if they do not fit."""
        sizes = {name: getattr(self, name) for name in NAMES if getattr(self, name) != -1}
        product = math.prod(sizes.values())
        largest = max(sizes, key=lambda name: sizes[name])
        terms = " * ".join(sizes)
        if self.data == -1 and device_count % product:
            raise self.invalid(largest, f"{terms} = {product} must divide the number of devices, {device_count}")
        if product > device_count:
            raise self.invalid(largest, f"{terms} = {product} must be at most the number of devices, {device_count}")
        if self.data != -1 and jax.process_count() > 1 and product != device_count:
            raise self.invalid(largest, f"{terms} = {product} must be the devices of all processes, {device_count}")
        data = device_count // product if self.data == -1 else self.data
        return self.replica, data, self.fsdp, self.tensor

    def build(self, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
        """The mesh over `devices`, by default all; the first ones if the mesh has fewer places. Raises SpecError."""
        devices = jax.devices() if devices is None else list(devices)
        shape = self.shape(len(devices))
        chosen = devices[: math.prod(shape)]
        return jax.make_mesh(shape, NAMES, axis_types=(AxisType.Auto,) * len(NAMES), devices=chosen)


def misfits(path: str, axes: Axes, shape: Sequence[int], sizes: Mapping[str, int]) -> Iterator[Problem]:
    """Dimensions of the parameter at `path` that the mesh axes of these `sizes` do not divide.

    Raises:
      UserError: an axis that AXES does not know and that the part does not explain.
    """
    for axis, size in zip(axes, shape, strict=True):
        for name in _mesh_axes(axis, path):
            if size % sizes[name] and axis not in COPIED_IF_UNEVEN:
                yield Problem(name, sizes[name], f"must divide {path}, which has {axis}={size}")


def partition(path: str, axes: Axes, shape: Sequence[int], mesh: jax.sharding.Mesh) -> PartitionSpec:
    """Where the dimensions of an array with these logical `axes` go. `path` is for the error.

    A mesh axis is used for the first dimension that names it. Dimensions that the mesh does not divide are not
    split, which `misfits` has allowed only for COPIED_IF_UNEVEN.

    Raises:
      UserError: an axis that AXES does not know and that the part does not explain.
    """
    used: set[str] = set()
    entries: list[tuple[str, ...] | None] = []
    for axis, size in zip(axes, shape, strict=True):
        names = tuple(name for name in _mesh_axes(axis, path) if name not in used)
        even = size % math.prod(mesh.shape[name] for name in names) == 0
        entries.append(names if names and even else None)
        used.update(names if even else ())
    return PartitionSpec(*entries)


def mesh_axes(axes: Axes, path: str) -> tuple[str | None, ...]:
    """The mesh axis of each dimension of the parameter at `path`, on a mesh that divides them all."""
    used: set[str] = set()
    names: list[str | None] = []
    for axis in axes:
        free = [name for name in _mesh_axes(axis, path) if name not in used]
        used.update(free)
        names.append("+".join(free) or None)
    return tuple(names)


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
    sharding = batch_sharding(mesh, stacked)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


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
        return math.prod(self.mesh.shape[name] for name in _mesh_axes(axis, "an activation"))

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
            return PartitionSpec(*(_mesh_axes(axis, "an activation") or None for axis in axes))

        specs = tuple(spec(axes) for axes in inputs)
        return jax.shard_map(fn, mesh=self.mesh, in_specs=specs, out_specs=spec(output), check_vma=False)


def _mesh_axes(axis: str | None, path: str) -> tuple[str, ...]:
    if axis is None:
        return ()
    if axis in AXES:
        return AXES[axis]
    if isinstance(axis, Axis):
        strange = [name for name in axis.over if name not in NAMES]
        if strange:
            raise UserError(
                f"{path} has the axis {str(axis)!r} over {', '.join(strange)}; a mesh has {', '.join(NAMES)}"
            )
        return axis.over
    raise UserError(f"{path} has the axis {axis!r}, which the mesh does not know; it knows {', '.join(AXES)}; a part "
                    f"brings one of its own as Axis({axis!r}, MESH_AXIS)")  # fmt: skip

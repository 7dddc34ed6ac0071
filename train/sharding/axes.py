"""The table of axes: over which axes of the mesh each logical axis of an array is split.

Parts of a model name the logical axes of their parameters and activations. A new part brings its sharding by its names
alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import jax
from jax.sharding import PartitionSpec

from arch.params import Axes
from arch.sharding import Axis
from arch.spec import Problem, UserError

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


def misfits(path: str, axes: Axes, shape: Sequence[int], sizes: Mapping[str, int]) -> Iterator[Problem]:
    """Dimensions of the parameter at `path` that the mesh axes of these `sizes` do not divide.

    Raises:
      UserError: an axis that AXES does not know and that the part does not explain.
    """
    for axis, size in zip(axes, shape, strict=True):
        for name in over(axis, path):
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
        names = tuple(name for name in over(axis, path) if name not in used)
        even = size % math.prod(mesh.shape[name] for name in names) == 0
        entries.append(names if names and even else None)
        used.update(names if even else ())
    return PartitionSpec(*entries)


def mesh_axes(axes: Axes, path: str) -> tuple[str | None, ...]:
    """The mesh axis of each dimension of the parameter at `path`, on a mesh that divides them all."""
    used: set[str] = set()
    names: list[str | None] = []
    for axis in axes:
        free = [name for name in over(axis, path) if name not in used]
        used.update(free)
        names.append("+".join(free) or None)
    return tuple(names)


def over(axis: str | None, path: str) -> tuple[str, ...]:
    """The mesh axes that one logical axis is split over. `path` is for the error.

    Raises:
      UserError: an axis that AXES does not know and that the part does not explain.
    """
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

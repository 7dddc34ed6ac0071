"""The mesh: how devices are laid out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import jax
from jax.sharding import AxisType

from arch.spec import Problem, Spec, at_least
from train.sharding.axes import NAMES


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

"""Rotary positions of more than one axis: each axis turns its own part of a head (axial 2-D RoPE; arXiv 2403.13298).

`Inputs.coordinates` [B, T, A] says where a token is along each axis, such as row and column of an image's patch. Of the
K dimensions of a head, the first K / A are turned by the first axis as `Rotary` turns a whole head of that width, and
so on; with one axis it is `Rotary`. Masks and caches go by `positions`, the order of the tokens, as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax.numpy as jnp

from arch.layers.positions import Position, PositionLayer, RotaryLayer
from arch.spec import Problem, UserError, above, at_least


@dataclasses.dataclass(frozen=True)
class AxialRotary(Position):
    """Rotary positions along `axes` axes; `base` is theta of each."""

    axes: int = 2
    base: float = 100.0
    in_model: ClassVar[bool] = False

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "axes")
        yield from above(self, 1, "base")

    def build(self, width, heads, make):
        if width % (2 * self.axes):
            raise self.invalid("axes", f"must split the {width} dimensions of a head into {self.axes} even parts")
        return AxialRotaryLayer(self.axes, RotaryLayer(self.base, width // self.axes))


class AxialRotaryLayer(PositionLayer):
    reads_coordinates = True

    def __init__(self, axes: int, part: RotaryLayer):
        self.axes, self.part = axes, part

    def places(self, ctx):
        if ctx.coordinates is None or ctx.coordinates.shape[-1] != self.axes:
            found = "none" if ctx.coordinates is None else f"{ctx.coordinates.shape[-1]} axes"
            told = f"AxialRotary(axes={self.axes}) needs Inputs(coordinates=...) of {self.axes} axes"
            raise UserError(f"{told}; it got {found}")
        return ctx.coordinates

    def rotate(self, x, positions):
        parts = jnp.split(x, self.axes, axis=-1)
        turned = [self.part.rotate(part, positions[..., axis]) for axis, part in enumerate(parts)]
        return jnp.concatenate(turned, axis=-1)

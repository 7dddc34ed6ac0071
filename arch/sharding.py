"""Logical axes of activations, and the devices a program is traced for.

Models name the axes of the activations that cross blocks; whoever runs them on a mesh installs a placement for the
duration of a trace. Without one, nothing is added to the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import jax

from arch.params import Axes


@runtime_checkable
class Placement(Protocol):
    """A mesh, as a network sees it."""

    platform: str
    """Of the devices: "cpu", "gpu" or "tpu"."""

    def __call__(self, x: jax.Array, axes: Axes) -> jax.Array:
        """`x` placed by its logical axes, one name a dimension."""

    def parts(self, axis: str) -> int:
        """Into how many parts the mesh splits this logical axis."""

    def couple_rows(self) -> None:
        """Raises RowsCoupled where a device works on its own rows alone."""

    def split(self, fn: Callable[..., jax.Array], inputs: Sequence[Axes], output: Axes) -> Callable[..., jax.Array]:
        """`fn`, run by every device on its own part of the arguments, split by their logical axes."""


class RowsCoupled(Exception):  # noqa: N818 (a signal, not an error)
    """A part needs all rows of a batch together, while they are traced for each device by itself."""


class Axis(str):
    """A logical axis that a part brings with it: `(8, Axis("experts", "tensor"))` is split over the mesh axes `over`
    wherever the table of axes does not say otherwise; over none: not at all. It is a name like any other."""

    over: tuple[str, ...]

    def __new__(cls, name: str, *over: str) -> Axis:
        axis = super().__new__(cls, name)
        axis.over = over
        return axis

    def __getnewargs__(self) -> tuple[str, ...]:  # type: ignore[override]
        return (str(self), *self.over)


RESIDUAL_AXES: Axes = ("batch", "length", "residual")
"""The axes of the residual stream, [B, T, D]."""


def residual_axes(ndim: int) -> Axes:
    """The axes of a residual stream of any number of places: [B, D], [B, T, D], [B, H, W, D], ..."""
    batch, length, residual = RESIDUAL_AXES
    return (batch, *(length,) * (ndim - 2), residual)


_placement: ContextVar[Placement | None] = ContextVar("placement", default=None)


def constrain(x: jax.Array, axes: Axes) -> jax.Array:
    """`x` placed by its logical axes (one name a dimension), if a placement is installed."""
    placement = _placement.get()
    return x if placement is None else placement(x, axes)


def platform() -> str:
    """What the program being traced will run on."""
    placement = _placement.get()
    return jax.default_backend() if placement is None else placement.platform


def parts(axis: str) -> int:
    """Into how many parts this logical axis is split; 1 without a placement."""
    placement = _placement.get()
    return 1 if placement is None else placement.parts(axis)


def couple_rows() -> None:
    """Called by a part whose output depends on several rows of a batch together, such as statistics of a batch: devices
    must not work on their own rows alone. Losses that are no sum over rows say it themselves (`answers.coupled`)."""
    placement = _placement.get()
    if placement is not None:
        placement.couple_rows()


def split(fn: Callable[..., jax.Array], inputs: Sequence[Axes], output: Axes) -> Callable[..., jax.Array]:
    """`fn` on each device's own part: for kernels that the compiler cannot partition."""
    placement = _placement.get()
    return fn if placement is None else placement.split(fn, inputs, output)


@contextmanager
def activations(placement: Placement) -> Iterator[None]:
    """Installs `placement` for the traces made inside."""
    token = _placement.set(placement)
    try:
        yield
    finally:
        _placement.reset(token)

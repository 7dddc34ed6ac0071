"""Logical axes of activations.

Models name the axes of the activations that cross blocks; whoever runs them on a mesh installs a placement for the
duration of a trace. Without one, nothing is added to the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

from arch.params import Axes

Placement = Callable[[jax.Array, Axes], jax.Array]
RESIDUAL_AXES: Axes = ("batch", "length", "residual")
"""The axes of the residual stream, [B, T, D]."""

_placement: ContextVar[Placement | None] = ContextVar("placement", default=None)


def constrain(x: jax.Array, axes: Axes) -> jax.Array:
    """`x` placed by its logical axes (one name a dimension), if a placement is installed."""
    placement = _placement.get()
    return x if placement is None else placement(x, axes)


@contextmanager
def activations(placement: Placement) -> Iterator[None]:
    """Installs `placement` for the traces made inside."""
    token = _placement.set(placement)
    try:
        yield
    finally:
        _placement.reset(token)

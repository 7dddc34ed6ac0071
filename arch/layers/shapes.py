"""Shape helpers shared by the layers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from arch.sharding import platform

Known = jax.Array | np.ndarray
"""An array, or one whose values are known while tracing."""


def align(v: jax.Array, like: jax.Array) -> jax.Array:
    """`v`, a parameter of the trailing dimensions of `like`, in its rank and dtype: nothing is promoted silently."""
    return v.reshape((1,) * (like.ndim - v.ndim) + v.shape).astype(like.dtype)


def contract(x: jax.Array, kernel: jax.Array, dims: int = 1, dtype: Any = None) -> jax.Array:
    """The last `dims` dimensions of `x` against the first `dims` of `kernel`; `dtype` of the result, None: x's.

    Done as one product of two matrices: with more dimensions XLA's CPU backend takes half as long again for a whole
    training step, most of it in the gradient of the kernel.
    """
    inputs, outputs = kernel.shape[:dims], kernel.shape[dims:]
    size = math.prod(inputs)
    product = _upright if platform() == "cpu" and math.prod(outputs) % ALIASED == 0 else _product
    y = product(x.reshape(-1, size), kernel.reshape(size, -1), dtype or x.dtype)
    return y.reshape(*x.shape[: x.ndim - dims], *outputs)


ALIASED = 256
"""Kernels with a multiple of so many columns have a slow gradient x^T dy on XLA's CPU backend, likely because rows of
that size fall on each other in the cache: 40 to 44 GFLOP/s a core at 1024 and 4096 columns, 49 to 62 at 512, 57 to 68
at 256, and 68 to 89 at 688."""


def _product(x_MK: jax.Array, kernel_KN: jax.Array, dtype: Any) -> jax.Array:
    return lax.dot(x_MK, kernel_KN, preferred_element_type=dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _upright(x_MK: jax.Array, kernel_KN: jax.Array, dtype: Any) -> jax.Array:
    """The same product; its gradient by the kernel is one of two upright matrices, of which the first is a copy x^T."""
    return _product(x_MK, kernel_KN, dtype)


def _upright_jvp(dtype: Any, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (x_MK, kernel_KN), (dx_MK, dkernel_KN) = primals, tangents
    parts = []
    if not isinstance(dx_MK, SymbolicZero):
        parts.append(_product(dx_MK, kernel_KN, dtype))
    if not isinstance(dkernel_KN, SymbolicZero):
        x_KM = lax.optimization_barrier(x_MK.T)  # else the transposition would be folded into the product again
        parts.append(lax.dot_general(x_KM, dkernel_KN, (((0,), (0,)), ((), ())), preferred_element_type=dtype))
    return _upright(x_MK, kernel_KN, dtype), sum(parts[1:], parts[0])


_upright.defjvp(_upright_jvp, symbolic_zeros=True)

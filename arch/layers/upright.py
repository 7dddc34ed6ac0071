"""Products of two matrices on CPUs, whose gradient by the kernel is that of two upright matrices.

x [M, K], kernel [K, N]: the gradient x^T dy is slow on XLA's CPU backend where the kernel has a multiple of ALIASED
columns, likely because rows of that size fall on each other in the cache. With x copied, transposed, before the product
it runs as fast as any: GFLOP/s on one core 44 -> 81 (256 x 1024), 49 to 58 -> 65 to 80 (512 x 512), 44 -> 81 to 86
(512 x 4096); the 5M step of `bench/train_step.py` takes 0.98 of the time with 256 columns as well as 512.
Other platforms take the plain product.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero

from arch.sharding import platform

ALIASED = 256
"""Columns of which a kernel has a multiple: x^T dy runs at 40 to 44 GFLOP/s a core at 1024 and 4096 columns, 49 to 62
at 512, 57 to 68 at 256, and 68 to 89 at 688."""


def product(x_MK: jax.Array, kernel_KN: jax.Array, dtype: Any) -> jax.Array:
    """x kernel, in the form that is fastest to differentiate on the platform; `dtype` of the result."""
    slow = platform() == "cpu" and kernel_KN.shape[1] % ALIASED == 0
    return upright(x_MK, kernel_KN, dtype) if slow else plain(x_MK, kernel_KN, dtype)


def plain(x_MK: jax.Array, kernel_KN: jax.Array, dtype: Any) -> jax.Array:
    return lax.dot(x_MK, kernel_KN, preferred_element_type=dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def upright(x_MK: jax.Array, kernel_KN: jax.Array, dtype: Any) -> jax.Array:
    """The same product; its gradient by the kernel is one of two upright matrices, of which the first is a copy x^T."""
    return plain(x_MK, kernel_KN, dtype)


def _upright_jvp(dtype: Any, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (x_MK, kernel_KN), (dx_MK, dkernel_KN) = primals, tangents
    parts = []
    if not isinstance(dx_MK, SymbolicZero):
        parts.append(plain(dx_MK, kernel_KN, dtype))
    if not isinstance(dkernel_KN, SymbolicZero):
        x_KM = lax.optimization_barrier(x_MK.T)  # else the transposition would be folded into the product again
        parts.append(lax.dot_general(x_KM, dkernel_KN, (((0,), (0,)), ((), ())), preferred_element_type=dtype))
    return upright(x_MK, kernel_KN, dtype), sum(parts[1:], parts[0])


upright.defjvp(_upright_jvp, symbolic_zeros=True)

"""What a network costs: parameters by group, and FLOPs counted from the program itself.

FLOPs are those of matrix products, ragged ones included, and convolutions (2 a multiply-add), walked through the jaxpr
with the lengths of scans multiplied in; sums, elementwise functions and whatever moves numbers count nothing. Other
operations that multiply and add (factorisations, solvers, transforms, foreign kernels) are refused by name rather than
taken for free. XLA's own `cost_analysis` is not used: it counts a scanned body once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from arch.layers.attention.attend import plain_form
from arch.models.base import Inputs
from arch.params import merge, metadata, split
from arch.spec import Spec, UserError

UNCOUNTED = frozenset({
    *("fft", "cholesky", "cholesky_update", "eig", "eigh", "geqp3", "geqrf", "hessenberg", "householder_product", "lu"),
    *("ormqr", "qr", "schur", "svd", "symmetric_product", "triangular_solve", "tridiagonal", "tridiagonal_solve"),
    *("custom_linear_solve", "cudnn_fusion", "core_map", "call_exported", "call_hi_primitive"),
    *("ffi_call", "buffer_callback", "io_callback", "pure_callback"),
})  # fmt: skip
"""Primitives that multiply and add, or may, in a number that is not counted here. (`debug_callback` prints.)"""

UNCOUNTED_WORDS = ("dot", "matmul", "gemm", "attention", "custom_call", "kernel_call")
"""In the names of others such: cuDNN's attention, scaled products of low precision, kernels of other compilers."""

GROUPS = {"embedding": "embedding", "head": "head"}


@dataclasses.dataclass(frozen=True)
class Parameters:
    """How many parameters, by group. A tied head counts in the embedding alone."""

    embedding: int
    body: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.body + self.head

    @property
    def non_embedding(self) -> int:
        """All but the embedding tables: an untied head counts. `body` is without it."""
        return self.body + self.head


class UncountedError(UserError, ValueError):
    """A program whose FLOPs cannot be counted."""


def abstract(spec: Any) -> Any:
    """The model of `spec` with shapes in place of arrays: nothing is computed or allocated. Equal specs are planned
    once, for hundreds of arms of a study that differ in their learning rates alone."""
    try:
        graphdef, state = _planned(spec)
    except TypeError:  # a field that cannot be hashed: a mapping, or a value that is traced
        return _abstract(spec)
    return nnx.merge(graphdef, state)


def _abstract(spec: Any) -> Any:
    return nnx.eval_shape(lambda: spec.build(rngs=nnx.Rngs(0)))


@functools.lru_cache(maxsize=64)
def _planned(spec: Any) -> tuple[Any, Any]:
    graphdef, state = nnx.split(_abstract(spec))
    return graphdef, state


def parameters(spec: Spec) -> Parameters:
    """Counts the parameters of a model spec."""
    counts = {"embedding": 0, "body": 0, "head": 0}
    for row in metadata(abstract(spec)).values():
        counts[GROUPS.get(row["role"], "body")] += math.prod(row["shape"])
    return Parameters(**counts)


def forward_flops(spec: Spec, length: int) -> int:
    """FLOPs of one sequence of `length` tokens through the model, all T x T attention products counted."""
    graphdef, params, buffers = split(abstract(spec))
    inputs = Inputs(tokens=jax.ShapeDtypeStruct((1, length), jnp.int32))
    return flops(lambda p, b, inputs: merge(graphdef, p, b)(inputs).logits, params, buffers, inputs)


def train_flops_per_token(spec: Spec, length: int) -> float:
    """FLOPs of training on one token: three forward passes, what rematerialisation repeats not counted (MFU's rule)."""
    return 3 * forward_flops(spec, length) / length


def flops(fn: Callable[..., Any], *args: Any) -> int:
    """FLOPs of the matrix products and convolutions in `fn(*args)`; `args` may be shapes.

    Raises:
      UncountedError: the program holds a loop whose number of turns is not known before it runs, or multiplies and adds
        in an operation that is not counted.
    """
    with plain_form():
        return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in PRODUCTS:
            total += PRODUCTS[name](equation)
        elif name == "scan":
            total += params["length"] * _count(params["jaxpr"].jaxpr)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in params["branches"])
        elif name == "while":
            body = _count(params["body_jaxpr"].jaxpr) + _count(params["cond_jaxpr"].jaxpr)
            if body:
                raise UncountedError("cannot count the FLOPs of a while loop with products inside; use lax.scan")
        elif name == "shard_map":
            total += params["mesh"].size * _count(params["jaxpr"])
        elif name == "pallas_call":
            estimate = params.get("cost_estimate")
            if estimate is None:
                raise UncountedError("a Pallas kernel without a cost_estimate cannot be counted")
            total += estimate.flops
        elif name in UNCOUNTED or any(word in name for word in UNCOUNTED_WORDS):
            raise UncountedError(f"cannot count the FLOPs of {name}; those of products (dot, einsum, ragged_dot), "
                                 "convolutions and Pallas kernels with a cost_estimate are counted")  # fmt: skip
        else:
            total += sum(_count(inner) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> list[core.Jaxpr]:
    """The programs inside a call-like equation (jit, checkpoint, custom derivatives), whatever it calls them."""
    found = []
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            found.append(value.jaxpr)
        elif isinstance(value, core.Jaxpr):
            found.append(value)
    return found


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _ragged_dot(equation: Any) -> int:
    """As if the groups held all rows: each row, or each term of a sum over rows, is of one group alone."""
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (contracted, _), _ = numbers.dot_dimension_numbers
    left, groups = equation.invars[0].aval.shape, equation.invars[2].aval.shape[-1]
    each = math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    summed = set(numbers.lhs_ragged_dimensions) <= set(contracted)  # a sum for each group: the gradient of the weights
    return 2 * each // (groups if summed else 1)


def _convolution(equation: Any) -> int:
    numbers = equation.params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    taps = math.prod(kernel[axis] for axis in numbers.rhs_spec[2:]) * kernel[numbers.rhs_spec[1]]
    return 2 * math.prod(equation.outvars[0].aval.shape) * taps


PRODUCTS = {"dot_general": _dot, "ragged_dot_general": _ragged_dot, "conv_general_dilated": _convolution}

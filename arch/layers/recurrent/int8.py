"""Matrices in 8 bits (arXiv 1609.08144, eq. 11): s_r = max_j |W[r, j]|, WQ[r, j] = round(127 W[r, j] / s_r).

Row r is what makes output r: of kernels as they are here, inputs before outputs, the scale is over the inputs. Products
are int8 by int8, added up in int32. The paper does not say how the 16-bit operand becomes 8 bits; here it has one scale
a vector, by the same rule. A value is off by at most s / 254.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.layers.embeddings import Head, HeadLayer
from arch.layers.shapes import align, contract
from arch.params import ParamFactory, Size

LARGEST = 127
"""-128 is not used: a matrix and its negative are then quantised alike."""


class Rows(NamedTuple):
    """A matrix in 8 bits: W is nearly values * scales / 127."""

    values: Int[Array, "..."]
    scales: Float[Array, "..."]


def quantize_rows(kernel: Float[Array, "..."], inputs: int = 1) -> Rows:
    """int8 values in the shape of `kernel`, whose first `inputs` dimensions are summed over, and a scale an output."""
    axes = tuple(range(inputs))
    scales = jnp.max(jnp.abs(kernel), axis=axes)
    return Rows(_rounded(kernel, scales[(None,) * inputs]), scales)


def dequantized(rows: Rows) -> Float[Array, "..."]:
    """The matrix, each value within scale / 254 of what it was."""
    values = rows.values.astype(jnp.float32)
    return values * align(rows.scales / LARGEST, values)


def product(x: Float[Array, "*B I"], rows: Rows) -> Float[Array, "..."]:
    """x W in float32, of integer products."""
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    sums = contract(_rounded(x, largest), rows.values, dtype=jnp.int32).astype(jnp.float32)
    scale = (largest / LARGEST).reshape(*x.shape[:-1], *(1,) * rows.scales.ndim)
    return sums * scale * align(rows.scales / LARGEST, sums)


def _rounded(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.round(x * (LARGEST / jnp.where(scale > 0, scale, 1.0))).astype(jnp.int8)


def row_buffers(make: ParamFactory, name: str, inputs: list[Size], outputs: list[Size]) -> tuple[Any, Any]:
    """Two buffers for a matrix that is to be filled in: values, and scales."""
    shape = tuple(size for size, _ in (*inputs, *outputs))
    values = make.at(name).buffer([*inputs, *outputs], jnp.zeros(shape, jnp.int8), "zeros", role="int8")
    return values, make.buffer(outputs, 1.0, role="scale")


@dataclasses.dataclass(frozen=True)
class Int8Head(Head):
    """An untied head for inference. Its matrix is a buffer that `quantized` fills."""

    def build(self, vocab, width, make):
        return Int8HeadLayer(self.softcap, vocab, width, make)


class Int8HeadLayer(HeadLayer):
    def __init__(self, softcap: float | None, vocab: int, width: int, make: ParamFactory):
        super().__init__(softcap)
        self.kernel, self.scale = row_buffers(make, "kernel", [(width, "embed")], [(vocab, "vocab")])

    def products(self, x_BTD, embedding):
        return product(x_BTD, Rows(self.kernel[...], self.scale[...]))

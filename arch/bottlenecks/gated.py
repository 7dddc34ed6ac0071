"""Gated sparse autoencoders (arXiv 2404.16014, section 3.2): which codes are there and how much of each, separately.

    g = (x - b) W_gate + b_gate,  a = 1[g > 0] relu((x - b) W_gate exp(r) + b_mag)
    L = weight |y - x|^2 + sparsity |relu(g)|_1 + weight |sg(D) relu(g) + sg(b) - x|^2

The second and third term train the gate, whose step has no gradient. Squared errors are means over features, the
L1 norm a sum over codes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.answers import Sum
from arch.bottlenecks import usage
from arch.bottlenecks.sparse import Sparse, SparseLayer, strongest
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Gated(Sparse):
    """As many codes as the gate lets through, `k` at most. `sparsity`: weight of the L1 norm."""

    sparsity: float = 1e-3

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 0, "sparsity")

    def build(self, width, make):
        return GatedLayer(self, width, make)


class GatedLayer(SparseLayer):
    """`encoder` and `encoder_bias` are W_gate and b_gate."""

    def __init__(self, spec: Gated, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.sparsity = spec.sparsity
        self.scale, self.size_bias = (make.constant([(spec.codes, "codes")], 0.0) for _ in range(2))

    def chosen(self, x, weights, training):
        row = lambda value: value.reshape((1,) * (x.ndim - 1) + (-1,))  # noqa: E731
        gate = self.before(x)
        inner = gate - row(self.encoder_bias[...])
        sizes = jax.nn.relu(inner * jnp.exp(row(self.scale[...])) + row(self.size_bias[...]))
        return strongest(jnp.where(gate > 0, sizes, jnp.zeros(())), self.k)

    def further(self, x, y, weights):
        there = jnp.ones(x.shape[:-1], jnp.float32) if weights is None else weights
        opened = jax.nn.relu(self.before(x))
        size = self.sparsity * jnp.sum(opened, axis=-1) * there
        fixed = jax.lax.stop_gradient(self.directions()), jax.lax.stop_gradient(self.bias[...])
        made = opened @ fixed[0] + fixed[1].reshape((1,) * (x.ndim - 1) + (-1,))
        gate = usage.apart(made, x, weights, self.weight)
        return {"sparsity": Sum(jnp.sum(size), jnp.sum(there)), "gate": gate}

"""Lookup-free quantisation (LFQ, arXiv 2310.05737, section 3.1): d numbers, each replaced by its sign.

    y = sign(z),  code = sum_i 2^i [z_i > 0]
    L = beta |z - sg(y)|^2 + gamma (E[H(p(c | z))] - H(E[p(c | z)])),   p(c | z) ~ exp(-|z - c|^2 / tau)

The first entropy makes a choice sure, the second all codes equally frequent: it is of the whole batch, and coupled.
Bits are independent given z, so that p(bit | z) = sigmoid(4 z / tau); H(E[p]) is summed over groups of at most `group`
bits, each over all of its 2^group codes. A vector is mapped to the d numbers and back by linear maps, unless its width
is d.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.answers import Sum, coupled
from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.bits import chosen_bits
from arch.bottlenecks.gradients import GradientRule, StraightThrough
from arch.bottlenecks.projected import Projected
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least, between


@dataclasses.dataclass(frozen=True)
class LookupFree(Bottleneck):
    """The signs of `binary` numbers.

    Attributes:
      binary: d; there are 2^d codes.
      beta: weight of the commitment loss.
      gamma: weight of the entropies.
      temperature: tau; 0.01 is that of public implementations, the paper gives none.
      group: bits whose joint distribution the entropy of the batch looks at.
      gradient: what gradient the numbers get.
    """

    binary: int = 10
    beta: float = 0.25
    gamma: float = 0.1
    temperature: float = 0.01
    group: int = 8
    gradient: GradientRule = StraightThrough()

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 1, 24, "binary")
        yield from between(self, 1, 12, "group")
        yield from at_least(self, 0, "beta", "gamma")
        yield from above(self, 0, "temperature")

    def build(self, width, make):
        return LookupFreeLayer(self, width, make)


class LookupFreeLayer(Quantizer):
    def __init__(self, spec: LookupFree, width: int, make: ParamFactory):
        self.binary, self.group, self.rule = spec.binary, spec.group, spec.gradient
        self.beta, self.gamma, self.temperature = spec.beta, spec.gamma, spec.temperature
        self.projected = Projected(width, spec.binary, make)
        self.counts = usage.counter(make, 2**spec.binary)

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        z = self.projected.down(x)
        place = jnp.arange(self.binary, dtype=jnp.int32).reshape((1,) * (z.ndim - 1) + (-1,))
        if codes is None:
            codes = jnp.sum(jnp.where(z > 0, 1 << place, 0), axis=-1, keepdims=True)
        signs = (2 * ((codes >> place) & 1) - 1).astype(jnp.float32)
        y = self.projected.up(self.rule(z, signs)).astype(x.dtype)
        counts = self.counts[...]
        return Quantized(
            y,
            codes,
            losses={"commitment": usage.apart(z, signs, weights, self.beta), **self.entropies(z, weights)},
            metrics=usage.health(counts, x, y, weights, self.bits(counts)),
            statistics={"counts": usage.count(codes, weights, len(counts))},
        )

    def entropies(self, z: jax.Array, weights: jax.Array | None) -> dict[str, Sum]:
        """gamma E[H], a mean over vectors, and -gamma H(E), of the batch."""
        logits = 4 / self.temperature * z
        yes = jax.nn.sigmoid(logits)
        each = jnp.sum(yes * jax.nn.softplus(-logits) + (1 - yes) * jax.nn.softplus(logits), axis=-1)
        weights = jnp.ones(each.shape, jnp.float32) if weights is None else weights
        flat, share = yes.reshape(-1, self.binary), weights.reshape(-1) / jnp.maximum(jnp.sum(weights), 1)
        whole = jnp.zeros(())
        for first in range(0, self.binary, self.group):
            joint = share[:, None]
            for bit in range(first, min(first + self.group, self.binary)):
                one = flat[:, bit : bit + 1]
                joint = jnp.concatenate([joint * (1 - one), joint * one], axis=-1)
            mean = jnp.sum(joint, axis=0)
            whole = whole - jnp.sum(mean * jnp.log(jnp.maximum(mean, 1e-30)))
        sure = Sum(self.gamma * jnp.sum(each * weights), jnp.sum(weights))
        return {"sample_entropy": sure, "batch_entropy": coupled(-self.gamma * whole)}

    def advance(self, buffers, sums):
        return {"counts": usage.moved(buffers["counts"], sums["counts"])}

    def bits(self, counts=None):
        return chosen_bits(counts, 2**self.binary, 1)

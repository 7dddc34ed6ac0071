"""Gumbel-softmax codes (arXiv 1611.01144; as a quantiser arXiv 1910.05453, section 3.2).

    l = x W + b,  p = softmax((l + g) / tau),  g ~ Gumbel,  y = e_argmax with the gradient of sum_c p_c e_c
    L = weight (log C - H(softmax(l)))                                the divergence from equal use

Noise is drawn while training with a key alone; else y = e_argmax(l). All codes get a gradient, each by its probability:
none is dead for good, and the divergence pulls those back that are chosen seldom.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.answers import Sum
from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.bits import chosen_bits
from arch.bottlenecks.lookup import largest, read
from arch.layers.linear import Dense
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least


@dataclasses.dataclass(frozen=True)
class GumbelSoftmax(Bottleneck):
    """One of `codes` codes, drawn with probabilities that are read off the vector.

    Attributes:
      codes: C.
      temperature: tau.
      hard: whether one code goes on; else the mean of all by p, while training.
      weight: of the divergence.
      std: codes start from N(0, std^2).
    """

    codes: int = 512
    temperature: float = 1.0
    hard: bool = True
    weight: float = 5e-4
    std: float = 1.0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "codes")
        yield from at_least(self, 0, "weight")
        yield from above(self, 0, "temperature", "std")

    def build(self, width, make):
        return GumbelSoftmaxLayer(self, width, make)


class GumbelSoftmaxLayer(Quantizer):
    def __init__(self, spec: GumbelSoftmax, width: int, make: ParamFactory):
        self.temperature, self.hard, self.weight = spec.temperature, spec.hard, spec.weight
        self.logits = Dense(bias=True).build([(width, "embed")], [(spec.codes, "codes")], make, name="logits")
        start = spec.std * jax.random.normal(make.at("codes").key, (spec.codes, width))
        sizes = [(spec.codes, "codes"), (width, "embed")]
        self.codes = make.array(sizes, start, f"normal({spec.std:g})", role="codebook")
        self.counts = usage.counter(make, spec.codes)

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        table, logits = self.codes[...].astype(jnp.float32), self.logits(x.astype(jnp.float32))
        noisy = logits if key is None else logits + jax.random.gumbel(key, logits.shape)
        given = codes is not None
        if codes is None:
            codes = largest(jax.lax.stop_gradient(noisy).reshape(-1, logits.shape[-1]), 1).reshape(*x.shape[:-1], 1)
        soft = jax.nn.softmax(noisy / self.temperature, axis=-1) @ table
        y = read(jax.lax.stop_gradient(table), codes)[..., 0, :] + (soft - jax.lax.stop_gradient(soft))
        y = (soft if training and not self.hard and not given else y).astype(x.dtype)
        log = jax.nn.log_softmax(logits, axis=-1)
        gap = self.weight * (jnp.log(float(len(table))) + jnp.sum(jnp.exp(log) * log, axis=-1))
        there = jnp.ones(gap.shape, jnp.float32) if weights is None else weights
        counts = self.counts[...]
        return Quantized(
            y,
            codes,
            losses={"divergence": Sum(jnp.sum(gap * there), jnp.sum(there))},
            metrics=usage.health(counts, x, y, weights, self.bits(counts)),
            statistics={"counts": usage.count(codes, weights, len(counts))},
        )

    def advance(self, buffers, sums):
        return {"counts": usage.moved(buffers["counts"], sums["counts"])}

    def bits(self, counts=None):
        return chosen_bits(counts, self.codes.shape[-2], 1)

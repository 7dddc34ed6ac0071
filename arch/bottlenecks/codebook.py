"""Codebook features (arXiv 2310.17230, section 2): a vector becomes the sum of the k codes most similar to it.

    s_i = a.c_i / (|a| |c_i|),  S = the k largest,  C(a) = sum_{i in S} c_i,  L = weight * MSE(C(a), sg(a))

Backwards the codebook is the identity for `a`; the chosen codes get the gradient of the network's loss and of L, the
others none. There is no commitment loss. `PerHead(Codebook())` at "attn.z" and `Grouped(Codebook())` at "mlp_out" are
the paper's places.

A code that nothing chooses gets no gradient and stays where it is: the metric `dead` counts those, and none comes back
(the authors' code has an option to replace them, which is off). `VectorQuantized(revive=...)` has codes that come back;
`train.starts.codes_from_data.KMeansCodes` starts all codes where vectors are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.bits import chosen_bits
from arch.bottlenecks.gradients import GradientRule, StraightThrough
from arch.bottlenecks.kmeans import centres
from arch.bottlenecks.lookup import Metric, nearest, read
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least, one_of

Prenorm = Literal["none", "layer", "affine"]
Compat = Literal["paper", "code"]


@dataclasses.dataclass(frozen=True)
class Codebook(Bottleneck):
    """The sum of the `k` nearest of `codes` codes.

    Attributes:
      codes: C.
      k: how many codes a vector becomes.
      metric: what similar means, "cosine" or "l2".
      prenorm: of the vectors before anything else: "none" (the paper), "layer" (LayerNorm without parameters) or
        "affine" (with gain and bias). Without one, random codes collapse to one or two live ones where the vectors'
        scale is not theirs, such as at mlp_out; codes from data (`fitted`) do not.
      std: codes start from N(0, std^2).
      weight: of the squared error, lambda.
      gradient: what gradient the vectors get.
      compat: "code" is what the authors released: the mean of the k codes, a LayerNorm with gain and bias before, and
        the squared error summed over features and not averaged.
    """

    codes: int = 1024
    k: int = 1
    metric: Metric = "cosine"
    prenorm: Prenorm = "none"
    std: float = 1.0
    weight: float = 1.0
    gradient: GradientRule = StraightThrough()
    compat: Compat = "paper"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "codes", "k")
        yield from at_least(self, 0, "weight")
        yield from above(self, 0, "std")
        for field, allowed in (("metric", Metric), ("prenorm", Prenorm), ("compat", Compat)):
            yield from one_of(self, field, get_args(allowed))
        if self.k > self.codes:
            yield Problem("k", self.k, f"must be at most codes={self.codes}")
        if self.compat == "code" and self.prenorm == "layer":
            yield Problem("prenorm", self.prenorm, "must be affine, or left out, with compat=code")

    def build(self, width, make):
        return CodebookLayer(self, width, make)


class CodebookLayer(Quantizer):
    def __init__(self, spec: Codebook, width: int, make: ParamFactory):
        self.k, self.metric, self.weight, self.rule = spec.k, spec.metric, spec.weight, spec.gradient
        self.mean = spec.compat == "code"
        self.summed = ("reconstruction",) if self.mean else ()
        self.prenorm = "affine" if self.mean else spec.prenorm
        sizes = [(spec.codes, "codes"), (width, "embed")]
        start = spec.std * jax.random.normal(make.at("codes").key, (spec.codes, width))
        self.codes = make.array(sizes, start, f"normal({spec.std:g})", role="codebook")
        self.counts = usage.counter(make, spec.codes)
        if self.prenorm == "affine":
            self.gain, self.bias = make.constant([(width, "embed")], 1.0), make.constant([(width, "embed")], 0.0)

    def normed(self, x: jax.Array) -> jax.Array:
        """What is looked up."""
        if self.prenorm == "none":
            return x
        x32 = x.astype(jnp.float32)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        scaled = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-5)
        y = scaled.astype(x.dtype)
        return y * align(self.gain[...], y) + align(self.bias[...], y) if self.prenorm == "affine" else y

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        x, table = self.normed(x), self.codes[...].astype(jnp.float32)
        ids = nearest(x, table, self.metric, self.k) if codes is None else codes
        y = jnp.sum(read(table, ids), axis=-2)
        y = y / self.k if self.mean else y
        target, over = jax.lax.stop_gradient(x), "sum" if self.mean else "mean"
        counts = self.counts[...]
        return Quantized(
            self.rule(x, y.astype(x.dtype)),
            ids,
            losses={"reconstruction": usage.apart(y, target, weights, self.weight, over)},
            metrics=usage.health(counts, x, y.astype(x.dtype), weights, self.bits(counts)),
            statistics={"counts": usage.count(ids, weights, len(counts))},
        )

    def fitted(self, x, weights, key, steps):
        """Centres of the vectors; where k codes are summed a k-th of each, so that k alike make one."""
        codes = centres(self.normed(x), weights, len(self.codes[...]), key, steps)
        return {"params": {"codes": codes if self.mean else codes / self.k}, "buffers": {}}

    def advance(self, buffers, sums):
        return {"counts": usage.moved(buffers["counts"], sums["counts"])}

    def bits(self, counts=None):
        return chosen_bits(counts, self.codes.shape[-2], self.k)

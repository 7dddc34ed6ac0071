"""Vector quantisation (VQ-VAE, arXiv 1711.00937): each vector becomes the nearest of C codes.

    L = |sg(x) - e|^2 + beta |x - sg(e)|^2                                         (eq. 3)

`VectorQuantized` has no first term: its codes are running means of the vectors that chose them (appendix A.1),
N <- d N + (1 - d) n, M <- d M + (1 - d) s, e = M / N. `LearnedCodes` moves its codes by the gradient of the first term.
Squared distances are means over features. The vectors get the gradient of `gradient`.

A code of `LearnedCodes` that nothing chooses gets no gradient and stays where it is: the metric `dead` counts those,
and none comes back, for parameters are moved by the optimiser alone. Those of `VectorQuantized(revive=...)` come back,
those of `SimVQ` move together, and codes from data (`train.starts.codes_from_data.KMeansCodes`) are not dead to
begin with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import get_args

import jax
import jax.numpy as jnp

from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.bits import chosen_bits
from arch.bottlenecks.gradients import GradientRule, StraightThrough
from arch.bottlenecks.kmeans import centres
from arch.bottlenecks.lookup import Metric, nearest, read
from arch.bottlenecks.revive import revived
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least, between, one_of


@dataclasses.dataclass(frozen=True)
class Nearest(Bottleneck):
    """What both have.

    Attributes:
      codes: C.
      beta: weight of the commitment loss.
      metric: what near means, "l2" or "cosine".
      std: codes start from N(0, std^2).
      gradient: what gradient the vectors get.
    """

    codes: int = 512
    beta: float = 0.25
    metric: Metric = "l2"
    std: float = 1.0
    gradient: GradientRule = StraightThrough()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "codes")
        yield from at_least(self, 0, "beta")
        yield from above(self, 0, "std")
        yield from one_of(self, "metric", get_args(Metric))


class NearestLayer(Quantizer):
    """Subclasses say what the codes are."""

    def __init__(self, spec: Nearest, make: ParamFactory):
        self.counts = usage.counter(make, spec.codes)
        self.beta, self.metric, self.rule = spec.beta, spec.metric, spec.gradient

    def table(self) -> jax.Array:
        """The codes [C, N], float32."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its codes are")

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        table, counts = self.table(), self.counts[...]
        ids = nearest(x, table, self.metric) if codes is None else codes
        code = read(table, ids)[..., 0, :]
        fixed = jax.lax.stop_gradient(code)
        losses = {"commitment": usage.apart(x, fixed, weights, self.beta), **self.further_losses(x, code, weights)}
        y = fixed.astype(x.dtype)
        metrics = usage.health(counts, x, y, weights, self.bits(counts))
        return Quantized(self.rule(x, y), ids, None, losses, metrics, self.statistics(x, fixed, ids, weights))

    def further_losses(self, x: jax.Array, code: jax.Array, weights: jax.Array | None) -> dict[str, usage.Sum]:
        return {}

    def statistics(
        self, x: jax.Array, code: jax.Array, ids: jax.Array, weights: jax.Array | None
    ) -> dict[str, jax.Array]:
        """Sums over rows for `advance`."""
        return {"counts": usage.count(ids, weights, self.counts.shape[-1])}

    def advance(self, buffers: Mapping[str, jax.Array], sums: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {"counts": usage.moved(buffers["counts"], sums["counts"])}

    def bits(self, counts=None):
        return chosen_bits(counts, self.counts.shape[-1], 1)


@dataclasses.dataclass(frozen=True)
class VectorQuantized(Nearest):
    """Codes that are running means.

    Attributes:
      decay: d.
      revive: codes chosen less than this part of an equal share come back beside a full one (`bottlenecks.revive`);
        0: none does, as in the paper.
    """

    decay: float = 0.99
    revive: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from between(self, 0, 1, "decay", "revive")

    def build(self, width, make):
        return VectorQuantizedLayer(self, width, make)


class VectorQuantizedLayer(NearestLayer):
    """Holds e and N; M is their product."""

    def __init__(self, spec: VectorQuantized, width: int, make: ParamFactory):
        super().__init__(spec, make)
        self.decay, self.revive = spec.decay, spec.revive
        sizes = [(spec.codes, "codes"), (width, "embed")]
        start = spec.std * jax.random.normal(make.at("codes").key, (spec.codes, width))
        self.codes = make.buffer(sizes, start, f"normal({spec.std:g})", role="codebook")
        if spec.revive:
            self.spread = make.buffer([(spec.codes, "codes")], 0.0)

    def table(self):
        return self.codes[...]

    def fitted(self, x, weights, key, steps):
        return {"params": {}, "buffers": {"codes": centres(x, weights, len(self.codes[...]), key, steps)}}

    def statistics(self, x, code, ids, weights):
        flat, to = jax.lax.stop_gradient(x.astype(jnp.float32)).reshape(-1, x.shape[-1]), ids.reshape(-1)
        each = jnp.ones(len(flat), jnp.float32) if weights is None else weights.reshape(-1)
        size = self.counts.shape[-1]
        found = {
            "counts": usage.count(ids, weights, size),
            "codes": jnp.zeros((size, flat.shape[-1]), jnp.float32).at[to].add(flat * each[:, None]),
        }
        if self.revive:
            gap = jnp.sum(jnp.square(flat - code.reshape(flat.shape)), axis=-1)
            found["spread"] = jnp.zeros(size, jnp.float32).at[to].add(gap * each)
        return found

    def advance(self, buffers, sums):
        d, old = self.decay, buffers["counts"]
        counts = usage.moved(old, sums["counts"], d)
        mass = d * old[:, None] * buffers["codes"] + (1 - d) * sums["codes"]
        # Of a code that nothing has chosen for thousands of steps N is 0: it stays where it was.
        codes = jnp.where(counts[:, None] > 1e-20, mass / jnp.maximum(counts, 1e-20)[:, None], buffers["codes"])
        if not self.revive:
            return {"codes": codes, "counts": counts}
        codes, counts, spread = revived(codes, counts, usage.moved(buffers["spread"], sums["spread"], d), self.revive)
        return {"codes": codes, "counts": counts, "spread": spread}


@dataclasses.dataclass(frozen=True)
class LearnedCodes(Nearest):
    """Codes that are parameters."""

    def build(self, width, make):
        return LearnedCodesLayer(self, width, make)


class LearnedCodesLayer(NearestLayer):
    def __init__(self, spec: LearnedCodes, width: int, make: ParamFactory):
        super().__init__(spec, make)
        sizes = [(spec.codes, "codes"), (width, "embed")]
        start = spec.std * jax.random.normal(make.at("codes").key, (spec.codes, width))
        self.codes = make.array(sizes, start, f"normal({spec.std:g})", role="codebook")

    def table(self):
        return self.codes[...].astype(jnp.float32)

    def fitted(self, x, weights, key, steps):
        return {"params": {"codes": centres(x, weights, len(self.codes[...]), key, steps)}, "buffers": {}}

    def further_losses(self, x, code, weights):
        return {"codebook": usage.apart(jax.lax.stop_gradient(x), code, weights)}

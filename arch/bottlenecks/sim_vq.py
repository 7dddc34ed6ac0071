"""SimVQ (arXiv 2411.02038): fixed random codes through one learned linear map, so that all codes move together.

    e_c = b_c W with b fixed, W learned;  L = |sg(x) - e|^2 + beta |x - sg(e)|^2

A code that is not chosen moves too, with the space that W spans, which is what keeps codebooks from collapsing. Nothing
else brings a dead code back, and as W maps codes that are given none is made of data.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from arch.bottlenecks import usage
from arch.bottlenecks.vector_quantized import Nearest, NearestLayer
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class SimVQ(Nearest):
    """Codes that are a linear map of fixed ones."""

    def build(self, width, make):
        return SimVQLayer(self, width, make)


class SimVQLayer(NearestLayer):
    def __init__(self, spec: SimVQ, width: int, make: ParamFactory):
        super().__init__(spec, make)
        start = spec.std * jax.random.normal(make.at("fixed").key, (spec.codes, width))
        sizes = [(spec.codes, "codes"), (width, "embed")]
        self.fixed = make.buffer(sizes, start, f"normal({spec.std:g})", role="codebook")
        bound = width**-0.5  # a linear layer's usual start
        kernel = jax.random.uniform(make.at("map").key, (width, width), minval=-bound, maxval=bound)
        self.map = make.array([(width, "embed"), (width, None)], kernel, f"uniform({bound:g})", role="linear")

    def table(self):
        return self.fixed[...] @ self.map[...].astype(jnp.float32)

    def further_losses(self, x, code, weights):
        return {"codebook": usage.apart(jax.lax.stop_gradient(x), code, weights)}

    def advance(self, buffers, sums):
        return {**super().advance(buffers, sums), "fixed": buffers["fixed"]}

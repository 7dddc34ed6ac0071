"""Admin (arXiv 2004.08249), a post-norm block with weighted residuals.

  x_i = norm(w_i * x_{i-1} + f_i(x_{i-1})),   w_1 = 1,   w_i^2 = Var[x_0] + sum_{j<i} Var[f_j(x_{j-1})] at the start,

i counting sublayers; this is how the authors' code fills w from a first forward pass (`profile` takes the variances
from its taps). A model that has not been profiled starts from what unit variances would give, w_i = sqrt(i), so that an
arm is a configuration alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arch.blocks.base import Block, site
from arch.blocks.post_norm import PostNormLayer
from arch.layers.shapes import align
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class Admin(Block):
    """norm(w * x + f(x)) for each sublayer, w a learned vector of D. A closed gate leaves the stream as it is."""

    def build(self, width, make):
        return AdminLayer(self, width, make)


class AdminLayer(PostNormLayer):
    def __init__(self, spec: Admin, width: int, make: ParamFactory):
        super().__init__(spec, width, make)

        def omega(name: str) -> Any:
            sublayer = jnp.asarray(make.layer, jnp.float32) * len(self.names) + (1 + self.names.index(name))
            return make.array([(width, "embed")], jnp.sqrt(sublayer), "sqrt(i)")

        self.add_beside("omega", omega)

    def carried(self, name, x):
        return align(self.beside(name, "omega")[...], x) * x


def _profiled(blocks: Mapping[str, Any]) -> list[str]:
    """The sublayers of a block with the default order, first to last."""
    names = [name.removesuffix("_omega") for name in blocks if name.endswith("_omega")]
    return sorted(names, key=lambda name: {"mixer": 0, "feed_forward": 2}.get(name, 1))


def omegas(blocks: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """The parameters `stack.blocks` of an Admin model with every w set: `value` [sublayers] in order, or a number."""
    names = _profiled(blocks)
    old = blocks[f"{names[0]}_omega"]
    values = jnp.broadcast_to(jnp.asarray(value, old.dtype), (old.shape[0] * len(names),)).reshape(-1, len(names))
    new = {f"{name}_omega": values[:, k, None] * jnp.ones_like(old) for k, name in enumerate(names)}
    return {**blocks, **new}


def profile(blocks: Mapping[str, Any], taps: Mapping[str, jax.Array], embed: jax.Array) -> dict[str, Any]:
    """The parameters `stack.blocks` with w from the variances of one forward pass.

    The authors' code fills each w before it is used in that same pass; k rounds of pass and profile make the first
    k + 1 of them so.

    Args:
      blocks: as they were in the pass that was tapped, at first with w = 1: `omegas(blocks, 1.0)`.
      taps: `attn_out` and `mlp_out` of that pass, [L, B, T, D].
      embed: the input of the first layer, [B, T, D].
    """
    names = _profiled(blocks)
    writes = jnp.stack([jnp.var(taps[site(name)], axis=(1, 2, 3)) for name in names], axis=1).reshape(-1)
    sums = jnp.var(embed) + jnp.cumsum(writes)[:-1]
    return omegas(blocks, jnp.concatenate([jnp.ones(1, sums.dtype), jnp.sqrt(sums)]))

"""QK-norm over all heads together (OLMo 2, arXiv 2501.00656): one norm of the whole projection, N K numbers,
where QK-norm (arXiv 2302.05442) takes one of each head.
"""

from __future__ import annotations

import dataclasses

from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.norms.common import Norm, RMSNorm
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class AcrossHeads(Norm):
    """`Attention(qk_norm=AcrossHeads())`: `norm` of a token's heads laid side by side. No norm of the stream."""

    norm: Norm = RMSNorm()

    def build(self, width, make, axis="embed"):
        raise self.invalid(
            "norm", "AcrossHeads belongs to attention, qk_norm=AcrossHeads(norm=...): here is one vector"
        )

    def build_heads(self, heads, head_dim, make):
        return AcrossHeadsLayer(self, heads, head_dim, make)


class AcrossHeadsLayer(nnx.Module):
    def __init__(self, spec: AcrossHeads, heads: tuple[int, str], head_dim: int, make: ParamFactory):
        count, axis = heads
        self.norm = spec.norm.build(count * head_dim, make.at("norm"), axis)

    def __call__(self, x: Float[Array, "*b N K"], ctx: Context) -> Float[Array, "*b N K"]:
        return self.norm(x.reshape(*x.shape[:-2], -1), ctx).reshape(x.shape)

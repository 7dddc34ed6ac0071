"""The "full Megatron" start of ModernBERT (arXiv 2412.13663, appendix A.4) and Ettin (arXiv 2507.11412)."""

from __future__ import annotations

import dataclasses

from arch.layers.init.initializers import Initializer, TruncatedNormal

SMALLER = ("residual", "transform")


@dataclasses.dataclass(frozen=True)
class FullMegatron(Initializer):
    """`base`, with residual writes and the dense layer of a prediction head smaller by 1/sqrt(2L).

    It differs from `ScaledInit` in the prediction head and in the cut at two standard deviations.
    """

    base: Initializer = TruncatedNormal(std=0.02, cut=2.0)

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        value = self.base(key, shape, role=role, fan_in=fan_in, depth=depth, layer=layer)
        return value * (2 * depth) ** -0.5 if role in SMALLER else value

    def describe(self, role: str) -> str:
        base = self.base.describe(role)
        return f"FullMegatron({base})" if role in SMALLER else base

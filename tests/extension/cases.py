"""The foreign mechanisms by name."""

from __future__ import annotations

from tests.extension.harness import PARTS, Case, decoder_flops
from tests.train.toys import LENGTH

T, D = LENGTH, 16
ATTENTION = T * 2 * 4 * D * D + 2 * 2 * T * T * D
"""FLOPs of the base run's attention: four projections, scores and values."""

CASES: dict[str, Case] = {
    "norm": Case(
        words=(f"model.block.norm={PARTS}.norm:DynamicTanh(alpha=0.7)", f"model.norm={PARTS}.norm:DynamicTanh"),
        sites={"attn_out": (2, 8, T, D), "final_norm": (8, T, D)},
        flops=decoder_flops(ATTENTION),
    ),
}

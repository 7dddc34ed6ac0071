"""Query heads over grouped key-value heads (arXiv 2305.13245): what attention to oneself and to a memory share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flax import nnx

from arch.layers.attention.attend import Scores
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least


def grouped_problems(spec: Any) -> Iterator[Problem]:
    """Of `heads`, `head_dim`, `kv_heads`, `softcap` and `scale`."""
    yield from at_least(spec, 1, "heads", "head_dim", "kv_heads")
    yield from above(spec, 0, "softcap", "scale")
    if spec.kv_heads and spec.heads > 0 and spec.kv_heads > 0 and spec.heads % spec.kv_heads:
        yield Problem("kv_heads", spec.kv_heads, f"must divide heads={spec.heads}")


class GroupedHeads(nnx.Module):
    """The projections q [D, N, K], k and v [D or M, H, K], o [N, K, D], norms of queries and keys, and the scores.

    `read`: width M of what keys and values are made of.

    Raises:
      SpecError: no `head_dim`, and heads that do not divide the width.
    """

    def __init__(self, spec: Any, width: int, read: int, make: ParamFactory):
        if spec.head_dim is None and width % spec.heads:
            divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
            raise spec.invalid("heads", f"must divide the width {width} ({divisors}), or give head_dim")
        self.heads = spec.heads
        self.kv_heads = spec.kv_heads or spec.heads
        self.head_dim = spec.head_dim or width // spec.heads
        self.scores = Scores(spec.scale or self.head_dim**-0.5, spec.softcap)
        embed, source, head = (width, "embed"), (read, "embed"), (self.head_dim, "head_dim")
        heads, kv_heads = (self.heads, "heads"), (self.kv_heads, "kv")
        self.q = spec.linear.build([embed], [heads, head], make, name="q")
        self.k = spec.linear.build([source], [kv_heads, head], make, name="k")
        self.v = spec.linear.build([source], [kv_heads, head], make, name="v", role="value")
        self.o = spec.linear.build([heads, head], [embed], make, name="o", role="residual")
        if spec.qk_norm is not None:
            self.q_norm = spec.qk_norm.build_heads(heads, self.head_dim, make.at("q_norm"))
            self.k_norm = spec.qk_norm.build_heads(kv_heads, self.head_dim, make.at("k_norm"))

"""Bottlenecks of different kinds made comparable: each as large as makes its codes take equally many bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
from flax import nnx

from arch.bottlenecks.base import Bottleneck
from arch.bottlenecks.rate import ceiling
from arch.layers.init.initializers import Normal
from arch.params import ParamFactory
from arch.spec import SpecError, UserError
from experiments.study.match import excess

REFUSED = 64
"""So many sizes of a bottleneck in a row that cannot be built, and no further one is tried."""


def at_equal_bits(
    sized: Mapping[str, Callable[[int], Bottleneck]], bits: float, sizes: Sequence[int], tolerance: float = 0.05
) -> dict[str, Bottleneck]:
    """Each bottleneck at the size that comes nearest to `bits`: `{"top-k": lambda k: Codebook(k=k), ...}`.

    Bits must grow with the size, from 1 on; sizes that a part refuses (groups that do not divide a width) are passed
    over.

    Args:
      sized: name -> bottleneck by size.
      bits: what the codes of a token take at one site of one layer, at most.
      sizes: of a value at the site: `(width,)`, or `(heads, head width)` of attn.z.
      tolerance: how far one may be off, as a fraction of the smaller.

    Raises:
      UserError: one for which no size comes so near; with the nearest.
    """
    found, lines = {}, []
    for name, make in sized.items():
        tried = list(_tried(make, bits, sizes))
        if not tried:
            lines.append(f"{name} can be built at no size up to {REFUSED} for values of {' x '.join(map(str, sizes))}")
            continue
        off, size, nearest = min((abs(one - bits), size, one) for size, one in tried)
        found[name] = make(size)
        if excess(nearest, bits) > tolerance:
            lines.append(f"{name} comes no nearer to {bits:g} bits than {nearest:.4g}, {off / bits:.0%} off")
    if lines:
        raise UserError(f"match: {'; '.join(lines)}")
    return found


def _tried(make: Callable[[int], Bottleneck], bits: float, sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
    """(size, bits) of the sizes that can be built, up to the first one with as many as that."""
    refused, size = 0, 0
    while refused < REFUSED:
        size += 1
        try:
            one = bits_of(make(size), sizes)
        except SpecError:
            refused += 1
            continue
        refused = 0
        yield size, one
        if one >= bits:
            return


def bits_of(bottleneck: Bottleneck, sizes: Sequence[int]) -> float:
    """What the codes of one token take at most, at a site whose values have these sizes. Nothing is computed."""

    def built() -> nnx.Module:
        return nnx.Dict({"part": bottleneck.build_at(sizes, ParamFactory(jax.random.key(0), Normal(), 1))})

    return ceiling(nnx.eval_shape(built))

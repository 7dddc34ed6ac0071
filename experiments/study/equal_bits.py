"""Bottlenecks of different kinds made comparable: as many bits a token in each arm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from arch.spec import SpecError, UserError
from experiments.study.match import count, excess
from train.run import Run

REFUSED = 64
"""So many sizes of a bottleneck in a row that cannot be built, and no further one is tried."""


def at_equal_bits(arms: Mapping[str, Callable[[int], Run]], bits: float, tolerance: float = 0.05) -> dict[str, Run]:
    """Each arm at the size that comes nearest to `bits` a token: `{"top-k": lambda k: run with k codes, ...}`.

    Bits must grow with the size, from 1 on; sizes that a part refuses (groups that do not divide a width) are passed
    over.

    Raises:
      UserError: an arm for which no size comes within `tolerance`, a fraction of the smaller.
    """
    found, lines = {}, []
    for name, make in arms.items():
        sizes = list(_sizes(make, bits))
        if not sizes:
            lines.append(f"{name} can be built at no size up to {REFUSED}")
            continue
        off, size = min((abs(one - bits), size) for size, one in sizes)
        found[name] = make(size)
        if excess(nearest := dict(sizes)[size], round(bits)) > tolerance:
            lines.append(f"{name} comes no nearer to {bits:g} bits a token than {nearest}, {off / bits:.0%} off")
    if lines:
        raise UserError(f"match: {'; '.join(lines)}")
    return found


def _sizes(make: Callable[[int], Run], bits: float) -> Iterator[tuple[int, int]]:
    """(size, bits) of the sizes that can be built, up to the first one with as many as that."""
    refused, size = 0, 0
    while refused < REFUSED:
        size += 1
        try:
            one = count(make(size), "bits")
        except SpecError:
            refused += 1
            continue
        refused = 0
        yield size, one
        if one >= bits:
            return

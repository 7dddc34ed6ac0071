"""How many bits a token's codes take in a whole network: what bottlenecks are made comparable by."""

from __future__ import annotations

from collections.abc import Iterator

from flax import nnx

from arch.bottlenecks.base import Quantizer
from arch.params import Buffer, metadata


def quantizers(network: nnx.Module) -> Iterator[tuple[tuple[str, ...], Quantizer, int]]:
    """(path, part, how many layers of it are stacked) of the quantisers of a network, built or abstract; those inside
    another one are its own affair."""
    parts = {tuple(map(str, path)): part for path, part in nnx.iter_graph(network) if isinstance(part, Quantizer)}
    for path, part in parts.items():
        if not any(path[:length] in parts for length in range(len(path))):
            yield path, part, _layers(part)


def ceiling(network: nnx.Module) -> float:
    """Bits of one token's codes in all bottlenecks, all codes equally probable (`Quantizer.bits`); 0 without any."""
    return sum(layers * float(part.bits()) for _, part, layers in quantizers(network))


def _layers(part: nnx.Module) -> int:
    """The product of the axes of layers that its variables have in front."""
    rows = [*metadata(part).values(), *metadata(part, Buffer).values()]
    if not rows:
        return 1
    total = 1
    for size, axis in zip(rows[0]["shape"], rows[0]["axes"], strict=True):
        total *= size if axis == "layers" else 1
    return total

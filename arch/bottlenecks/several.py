"""Several quantisers of one kind side by side, each with codes of its own.

    PerHead(Codebook())       one a head, at sites [B, T, N, K] such as "attn.z" (arXiv 2310.17230, section 2)
    Grouped(Codebook(), 16)   vectors cut into G equal parts, one a part: product quantisation (Jegou et al. 2011)

Losses and metrics are means over the heads or groups (a squared error per feature is then that of the whole vector),
but for `bits` and losses that are sums over features (`Quantizer.summed`), which add up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer, whole
from arch.params import ParamFactory, merge, split, stack_copies
from arch.spec import Problem, SpecError, at_least


@dataclasses.dataclass(frozen=True)
class PerHead(Bottleneck):
    """`each` for every head by itself."""

    each: Bottleneck

    def build(self, width, make):
        raise self.invalid("each", "must stand at a site that has heads, such as attn.z; Grouped cuts vectors")

    def build_at(self, sizes, make):
        if len(sizes) != 2:
            return self.build(sizes[-1], make)
        heads, width = sizes
        return Several(self.each, heads, width, make, axis="heads", cut=False)


@dataclasses.dataclass(frozen=True)
class Grouped(Bottleneck):
    """`each` for every one of `groups` equal parts of a vector."""

    each: Bottleneck
    groups: int = 16

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "groups")

    def build(self, width, make):
        if width % self.groups:
            raise self.invalid("groups", f"must divide the width {width}")
        return Several(self.each, self.groups, width // self.groups, make, axis=None, cut=True)


def innermost(part: Any) -> Any:
    """One of the quantisers that `part` has side by side, in others too; itself if it has none."""
    return innermost(part.each) if isinstance(part, Several) else part


class Several(Quantizer):
    """`count` quantisers of vectors of `width`; codes are [..., count, k]."""

    def __init__(self, spec: Bottleneck, count: int, width: int, make: ParamFactory, *, axis: str | None, cut: bool):
        self.count, self.width, self.cut = count, width, cut
        self.each = stack_copies(lambda one: spec.build(width, one), make.at("each"), count, axis)
        if not isinstance(self.each, Quantizer):
            raise SpecError(spec, [Problem("", type(spec).__name__, "must be a quantiser to stand several times")])
        self.summed = self.each.summed

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        shape = x.shape
        if self.cut:
            x = x.reshape(*shape[:-1], self.count, self.width)
        if weights is not None:
            weights = jnp.broadcast_to(weights if not self.cut else weights[..., None], x.shape[:-1])
        keys = None if key is None else jax.random.split(key, self.count)
        graphdef, params, buffers = split(self.each)
        axis = x.ndim - 2

        def one(params: Any, buffers: Any, x: Any, weights: Any, key: Any, codes: Any, amplitudes: Any) -> list[Any]:
            part = merge(graphdef, params, buffers)
            found = part.quantize(x, weights, training=training, key=key, codes=codes, amplitudes=amplitudes)
            return [getattr(found, field.name) for field in dataclasses.fields(Quantized)]

        places = (0, 0, axis, None if weights is None else axis, None if key is None else 0,
                  None if codes is None else axis, None if amplitudes is None else axis)  # fmt: skip
        outs = [axis, axis, axis, 0, 0, 0]
        found = Quantized(*jax.vmap(one, places, outs)(params, buffers, x, weights, keys, codes, amplitudes))
        losses, metrics = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), (found.losses, found.metrics))
        return dataclasses.replace(
            found,
            values=found.values.reshape(shape),
            losses={**losses, **(whole(losses, self.count, *self.each.summed) if self.each.summed else {})},
            metrics={**metrics, **whole(metrics, self.count, "bits")},
            statistics=None if found.statistics is None else {"each": found.statistics},
        )

    def fitted(self, x, weights, key, steps):
        if self.cut:
            x = x.reshape(*x.shape[:-1], self.count, self.width)
            weights = jnp.broadcast_to(weights[..., None], x.shape[:-1])
        graphdef, *state = split(self.each)
        told = (state, jnp.moveaxis(x, -2, 0), jnp.moveaxis(weights, -1, 0), jax.random.split(key, self.count))
        found = jax.lax.map(lambda one: merge(graphdef, *one[0]).fitted(*one[1:], steps), told)
        return {kind: {"each": of} if of else {} for kind, of in found.items()}

    def advance(self, buffers: Mapping[str, Any], sums: Mapping[str, Any]) -> dict[str, Any]:
        return {"each": jax.vmap(self.each.advance)(buffers["each"], sums["each"])}

    def bits(self, counts=None):
        if counts is None:
            return self.count * self.each.bits()
        return jnp.sum(jax.vmap(self.each.bits)(counts))

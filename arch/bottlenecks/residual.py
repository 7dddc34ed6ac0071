"""Residual vector quantisation (SoundStream, arXiv 2107.03312, section III-C): each stage quantises what is left.

    r_1 = x,  r_{i+1} = r_i - q_i(r_i),  y = sum_i q_i

The vectors get the gradient of `gradient` once, from the sum, and the parameters of a stage that of its own part of the
sum, as if it stood alone before what is left to it. The stages' losses and bits are summed, their other metrics means
over stages but for `error`, which is that of the sum. Codes are [..., stages * k], the first stage's first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Fitted, Quantized, Quantizer, whole
from arch.bottlenecks.gradients import GradientRule, StraightThrough
from arch.bottlenecks.several import innermost
from arch.bottlenecks.sparse import SparseLayer
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.params import ParamFactory, merge, split
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Residual(Bottleneck):
    """`stages` quantisers `each`, one after another."""

    each: Bottleneck = VectorQuantized()
    stages: int = 4
    gradient: GradientRule = StraightThrough()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "stages")

    def build(self, width, make):
        return ResidualLayer(self, width, make)


class ResidualLayer(Quantizer):
    def __init__(self, spec: Residual, width: int, make: ParamFactory):
        self.rule = spec.gradient
        self.stages = nnx.Dict({str(i): spec.each.build(width, make.at(str(i))) for i in range(spec.stages)})
        for stage in self.stages.values():
            if not isinstance(stage, Quantizer) or isinstance(innermost(stage), SparseLayer):
                raise spec.invalid("each", "must be a quantiser, whose codes have no amplitudes")
            self.summed = stage.summed

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        rest, total, found = x, jnp.zeros_like(x), {}
        live = jnp.zeros_like(x)  # zeros, with the gradients of the stages' parameters
        given = [None] * len(self.stages) if codes is None else jnp.split(codes, len(self.stages), axis=-1)
        keys = [None] * len(self.stages) if key is None else jax.random.split(key, len(self.stages))
        for (name, stage), own, ids in zip(self.stages.items(), keys, given, strict=True):
            found[name] = stage.quantize(rest, weights, training=training, key=own, codes=ids)
            y = jax.lax.stop_gradient(found[name].values)
            if training:  # the same numbers again, which the compiler takes from above
                alone = stage.quantize(jax.lax.stop_gradient(rest), weights, training=True, key=own, codes=ids).values
                live = live + alone - jax.lax.stop_gradient(alone)
            rest, total = rest - y, total + y
        losses, metrics = (
            jax.tree.map(lambda *each: sum(each[1:], each[0]), *[getattr(one, kind) for one in found.values()])
            for kind in ("losses", "metrics")
        )
        statistics = {name: one.statistics for name, one in found.items() if one.statistics is not None}
        return Quantized(
            self.rule(x, total) + live,
            jnp.concatenate([one.codes for one in found.values()], axis=-1),
            None,
            whole(losses, len(found)),
            {**metrics, **whole(metrics, len(found), "bits"), "error": usage.error(x, total, weights)},
            {"stages": statistics} if statistics else None,
        )

    def fitted(self, x, weights, key, steps):
        """Each stage of what those before it, fitted, leave."""
        found: Fitted = {"params": {}, "buffers": {}}
        for number, (name, stage) in enumerate(self.stages.items()):
            new = stage.fitted(x, weights, jax.random.fold_in(key, number), steps)
            graphdef, params, buffers = split(stage)
            stage = merge(graphdef, changed(params, new["params"]), changed(buffers, new["buffers"]))
            x = x - stage.quantize(x, weights).values
            for kind, of in new.items():
                found[kind] |= {name: of} if of else {}
        return {kind: {"stages": of} if of else {} for kind, of in found.items()}

    def advance(self, buffers, sums):
        stages = buffers["stages"]
        return {"stages": {name: self.stages[name].advance(own, sums["stages"][name]) for name, own in stages.items()}}

    def bits(self, counts=None):
        """`counts`: [stages, C], or [G, stages, C] of stages in groups."""
        own = lambda i: None if counts is None else counts[..., i, :]  # noqa: E731
        return sum(stage.bits(own(i)) for i, stage in enumerate(self.stages.values()))


def changed(tree: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with the leaves that `new` has."""
    inner = {name: changed(tree[name], one) if isinstance(one, Mapping) else one for name, one in new.items()}
    return {**tree, **inner}

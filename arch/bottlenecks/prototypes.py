"""Prototype layer (Li, Liu, Chen and Rudin, AAAI 2018, arXiv 1710.04806): squared distances to learned prototypes.

    d_ij = |f(x_i) - p_j|^2
    R1 = (1/m) sum_j min_i d_ij    every prototype is near an input of the batch
    R2 = (1/n) sum_i min_j d_ij    every input is near a prototype

R1 is of a batch as a whole: small ones make it larger and noisy. Prototypes start in U(0, 1), where an encoder that
ends in ReLU has its codes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.answers import coupled, mean_over
from arch.context import Context
from arch.layers.heads.class_heads import ClassHead
from arch.params import ParamFactory
from arch.spec import Problem, Spec, at_least


@dataclasses.dataclass(frozen=True)
class PrototypeLayer(Spec):
    """m prototypes. R1 and R2 are added to the loss as `loss/prototypes.near_inputs` and `.near_prototypes`.

    Attributes:
      count: m.
      near_inputs: weight of R1; 0 leaves it out of the loss.
      near_prototypes: weight of R2.
    """

    count: int = 15
    near_inputs: float = 1.0
    near_prototypes: float = 1.0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "count")
        yield from at_least(self, 0, "near_inputs", "near_prototypes")

    def build(self, width: int, make: ParamFactory) -> PrototypeLayerPart:
        return PrototypeLayerPart(self, width, make)


class PrototypeLayerPart(nnx.Module):
    """Codes [B, Q] to squared distances [B, m], float32. Rows that fill up a batch in evaluation count in what is
    reported of R1 and R2."""

    def __init__(self, spec: PrototypeLayer, width: int, make: ParamFactory):
        self.near_inputs, self.near_prototypes = spec.near_inputs, spec.near_prototypes
        start = jax.random.uniform(make.at("prototypes").key, (spec.count, width))
        self.prototypes = make.array([(spec.count, None), (width, None)], start, "uniform(0, 1)", role="codebook")

    def __call__(self, code_BQ: Float[Array, "B Q"], ctx: Context) -> Float[Array, "B m"]:
        d_Bm = squared_distances(code_BQ, self.prototypes[...])
        losses = {}
        if self.near_inputs:
            losses["near_inputs"] = coupled(self.near_inputs * jnp.mean(nearest(d_Bm, 0)))
        if self.near_prototypes:
            losses["near_prototypes"] = mean_over(self.near_prototypes * nearest(d_Bm, 1))
        ctx.answer(self, losses=losses)
        return d_Bm


def squared_distances(x: Float[Array, "B Q"], y: Float[Array, "m Q"]) -> Float[Array, "B m"]:
    """|x_i - y_j|^2 in float32; never negative. Summed over differences: near each other, |x|^2 - 2 x.y + |y|^2 loses
    what is left, and there the terms of the objective are."""
    return jnp.sum(jnp.square(x.astype(jnp.float32)[:, None] - y.astype(jnp.float32)[None]), axis=-1)


def nearest(d: Float[Array, "B m"], axis: int) -> Float[Array, "n"]:
    """The smallest along `axis`; the gradient goes to the first of equal ones alone."""
    at = jnp.expand_dims(jnp.argmin(d, axis=axis), axis)
    return jnp.take_along_axis(d, at, axis=axis).reshape(-1)


@dataclasses.dataclass(frozen=True)
class DistanceHead(ClassHead):
    """Distances times W, without a bias; W starts in U(0, 1). What is near a prototype of a class has a small distance,
    so that the weight that tells is the most negative one: its sign has to be learned."""

    def build(self, inputs, classes, width, make):
        return DistanceHeadLayer(inputs, classes, make)


class DistanceHeadLayer(nnx.Module):
    def __init__(self, inputs: int, classes: int, make: ParamFactory):
        start = jax.random.uniform(make.at("kernel").key, (inputs, classes))
        self.kernel = make.array([(inputs, None), (classes, None)], start, "uniform(0, 1)", role="head")

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B C"]:
        return x.astype(jnp.float32) @ self.kernel[...].astype(jnp.float32)

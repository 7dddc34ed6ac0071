"""Classification heads: from the vector of a row, or of each token, to the logits of classes, float32."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.layers.feed_forward import ACTIVATIONS, Activation
from arch.layers.linear import Dense, Linear
from arch.layers.shapes import align, contract
from arch.params import ParamFactory
from arch.spec import Problem, Spec, at_least, one_of


@dataclasses.dataclass(frozen=True)
class ClassHead(Spec, abc.ABC):
    """A map from `inputs` features to `classes` logits, in a model of `width`."""

    @abc.abstractmethod
    def build(self, inputs: int, classes: int, width: int, make: ParamFactory) -> Any:
        """The head: `head(features [..., D]) -> logits [..., classes]`."""


@dataclasses.dataclass(frozen=True)
class LinearHead(ClassHead):
    """W x + b."""

    def build(self, inputs, classes, width, make):
        return LinearHeadLayer(inputs, classes, make)


class LinearHeadLayer(nnx.Module):
    def __init__(self, inputs: int, classes: int, make: ParamFactory):
        self.kernel = make.weight("kernel", [(inputs, None)], [(classes, None)], role="head")
        self.bias = make.constant([(classes, None)], 0.0)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B C"]:
        logits = contract(x, self.kernel[...], dtype=jnp.float32)
        return logits + align(self.bias[...], logits)


@dataclasses.dataclass(frozen=True)
class MLPHead(ClassHead):
    """W act(W_in x + b_in) + b. `hidden` None: the width of the model."""

    hidden: int | None = None
    activation: Activation = "relu"
    linear: Linear = Dense(bias=True)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "hidden")
        yield from one_of(self, "activation", get_args(Activation))

    def build(self, inputs, classes, width, make):
        return MLPHeadLayer(self, inputs, classes, width, make)


class MLPHeadLayer(nnx.Module):
    def __init__(self, spec: MLPHead, inputs: int, classes: int, width: int, make: ParamFactory):
        self.activation = spec.activation
        hidden = spec.hidden or width
        self.up = spec.linear.build([(inputs, None)], [(hidden, "mlp")], make, name="up", role="feed_forward")
        self.out = LinearHeadLayer(hidden, classes, make.at("out"))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B C"]:
        return self.out(ACTIVATIONS[self.activation](self.up(x)))

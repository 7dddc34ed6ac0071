"""A deep plain perceptron: hidden layers one after another, without residual connections or norms.

h = act(W_1 flatten(image) + b_1),  h = act(W_l h + b_l) for l = 2..L,  logits = W h + b
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, get_args

import jax
from flax import nnx

from arch.layers.feed_forward import ACTIVATIONS, Activation
from arch.layers.heads.class_heads import ClassHead, LinearHead
from arch.layers.init.initializers import Initializer, Normal
from arch.layers.linear import Dense, Linear
from arch.models.base import Classification, Model, Network, Output
from arch.params import ParamFactory, merge, split, stack_layers
from arch.spec import DEEPEST, Problem, at_least, at_most, one_of
from arch.stacks.base import Loop, turn


@dataclasses.dataclass(frozen=True)
class DeepMLP(Model, Classification):
    """Arrays [B, ...] to logits [B, classes].

    Attributes:
      image: the shape of one input, flattened first.
      classes: how many there are.
      hidden: units of every hidden layer.
      depth: L, the hidden layers.
      activation: of every hidden layer.
      linear: the kind of every hidden layer's map.
      head: from the last hidden layer to logits.
      init: how every weight starts; biases start at zero.
      loop: "scan" compiles one layer whatever the depth; "unroll" compiles each, and can run faster on CPU.
    """

    image: tuple[int, ...] = (8, 8, 1)
    classes: int = 10
    hidden: int = 50
    depth: int = 20
    activation: Activation = "relu"
    linear: Linear = Dense(bias=True)
    head: ClassHead = LinearHead()
    init: Initializer = Normal(0.1)
    loop: Loop = "scan"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "classes", "hidden", "depth")
        yield from at_most(self, DEEPEST, "depth")
        yield from one_of(self, "activation", get_args(Activation))
        yield from one_of(self, "loop", get_args(Loop))
        if min(self.image, default=0) < 1:
            yield Problem("image", self.image, "must be the sizes of one input, each at least 1")

    def build(self, *, rngs: nnx.Rngs) -> DeepMLPNetwork:
        return DeepMLPNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


class DeepMLPNetwork(Network):
    """Logits of each input. Nothing is random.

    Tap sites: `mlp.first`, and `mlp.pre` and `mlp.post` of the hidden layers after the first, which are `(layer, ...)`.
    """

    reads = ("images",)

    def __init__(self, spec: DeepMLP, make: ParamFactory):
        self.image, self.depth, self.activation, self.loop = spec.image, spec.depth, spec.activation, spec.loop
        inputs, hidden = (math.prod(spec.image), "embed"), (spec.hidden, "mlp")
        self.first = spec.linear.build([inputs], [hidden], make, name="first")
        if spec.depth > 1:

            def layer(make: ParamFactory) -> Any:
                return spec.linear.build([(spec.hidden, "embed")], [hidden], make, name="layer")

            self.layers = stack_layers(layer, make.at("layers"), spec.depth - 1)
        self.head = spec.head.build(spec.hidden, spec.classes, spec.hidden, make.at("head"))

    def forward(self, inputs, ctx, cache):
        """Raises ValueError for inputs of another shape than the model's."""
        images = inputs.images
        if images.shape[1:] != tuple(self.image):
            raise ValueError(f"inputs have the shape {images.shape[1:]}; this model reads {tuple(self.image)}")
        activate = ACTIVATIONS[self.activation]
        dtype = jax.tree.leaves(nnx.state(self.first, nnx.Param))[0].dtype  # the type of the computation
        x = images.reshape(images.shape[0], -1).astype(dtype)
        x = ctx.tap("mlp.first", activate(self.first(x)))
        if self.depth > 1:
            graphdef, params, buffers = split(self.layers)

            def body(x: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, dict[str, jax.Array]]:
                layer, one, state = inputs
                tap = ctx.tap.at(layer)
                pre = tap("mlp.pre", merge(graphdef, one, state)(x))
                return tap("mlp.post", activate(pre)), tap.collect()

            x, taps = turn(body, x, range(1, self.depth), (params, buffers), self.loop, "none")
            ctx.tap.adopt(taps)
        return Output(ctx.tap("logits", self.head(x)), None, x)

"""Prototype network (Li, Liu, Chen and Rudin, AAAI 2018, arXiv 1710.04806): an autoencoder that classifies by distance.

    logits = D W,   D_ij = |f(x_i) - p_j|^2,   R = (1/n) sum_i |g(f(x_i)) - x_i|^2, a sum over pixels

A prototype is a code, so that the decoder g makes a picture of it: with its row of W it is the explanation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.answers import mean_over
from arch.bottlenecks.prototypes import DistanceHead, PrototypeLayer
from arch.layers.heads.class_heads import ClassHead
from arch.layers.image_encoders import ConvDecoder, ConvEncoder
from arch.layers.init.initializers import Initializer, Normal
from arch.models.base import Classification, Model, Network, Output
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class PrototypeNetwork(Model, Classification):
    """Images [B, H, W, C] to logits [B, classes]; R, R1 and R2 are added to the loss.

    Attributes:
      image: H, W and C of an image, with pixels from 0 to 1.
      classes: how many there are.
      encoder: f.
      decoder: g.
      prototypes: the prototype layer; None: the head reads the code, which is an autoencoder with a classifier.
      head: from distances, or the code, to logits.
      reconstruction: weight of R.
      init: how kernels start; biases start at zero.
    """

    image: tuple[int, int, int] = (28, 28, 1)
    classes: int = 10
    encoder: ConvEncoder = ConvEncoder()
    decoder: ConvDecoder = ConvDecoder()
    prototypes: PrototypeLayer | None = PrototypeLayer()
    head: ClassHead = DistanceHead()
    reconstruction: float = 1.0
    init: Initializer = Normal(0.01)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "classes")
        yield from at_least(self, 0, "reconstruction")
        if min(self.image) < 1:
            yield Problem("image", self.image, "must be height, width and channels, each at least 1")

    def build(self, *, rngs: nnx.Rngs) -> PrototypeNetworkPart:
        return PrototypeNetworkPart(self, ParamFactory(rngs.params(), self.init))


class PrototypeNetworkPart(Network):
    """Tap sites: "code", "reconstruction", "distances" and "logits"."""

    reads = ("images",)

    def __init__(self, spec: PrototypeNetwork, make: ParamFactory):
        self.image, self.weight = spec.image, spec.reconstruction
        self.encoder = spec.encoder.build(spec.image, make.at("encoder"))
        self.decoder = spec.decoder.build(spec.encoder, spec.image, make.at("decoder"))
        width = features = spec.encoder.features(spec.image)
        if spec.prototypes is not None:
            self.prototypes = spec.prototypes.build(features, make.at("prototypes"))
            width = spec.prototypes.count
        self.head = spec.head.build(width, spec.classes, features, make.at("head"))

    def forward(self, inputs, ctx, cache):
        """Raises ValueError for images of another shape than the model's."""
        images = inputs.images
        if images.shape[1:] != tuple(self.image):
            raise ValueError(f"images have the shape {images.shape[1:]}; this model reads {tuple(self.image)}")
        x = images.astype(jax.tree.leaves(nnx.state(self.encoder, nnx.Param))[0].dtype)
        code = ctx.tap("code", self.encoder(x, ctx))
        if self.weight or ctx.tap.wants("reconstruction"):
            again = ctx.tap("reconstruction", self.decoder(code)).astype(jnp.float32)
            apart = jnp.sum(jnp.square(again - images.astype(jnp.float32)), axis=(1, 2, 3))
            ctx.answer(self, losses={"reconstruction": mean_over(self.weight * apart)} if self.weight else {})
        if hasattr(self, "prototypes"):
            code = ctx.tap("distances", self.prototypes(code, ctx))
        return Output(ctx.tap("logits", self.head(code)), None, None)

    def pictures(self) -> Float[Array, "m H W C"]:
        """What the decoder makes of the prototypes."""
        found: jax.Array = self.decoder(self.prototypes.prototypes[...])
        return found

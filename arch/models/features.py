"""Classifiers on the features of an encoder: a linear probe, fine-tuning, or a bottleneck between encoder and head.

    logits = head(bottleneck(encoder(image)))

What is frozen is a matter of the optimiser (`freeze=("^encoder",)`), what the encoder starts from one of the run
(`FromRun(..., take=("^encoder",))`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
from flax import nnx

from arch.bottlenecks.key_value import KeyValueBottleneck
from arch.layers.heads.class_heads import ClassHead, LinearHead
from arch.layers.image_encoders import DenseEncoder, ImageEncoder
from arch.layers.init.initializers import FanIn, Initializer
from arch.models.base import Classification, Model, Network, Output
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class FeatureClassifier(Model, Classification):
    """Images [B, H, W, C] to logits [B, classes].

    Attributes:
      image: H, W and C of an image.
      classes: how many there are.
      encoder: from an image to its features.
      bottleneck: between the features and the head; None: the head reads the features.
      head: from features or values to logits.
      init: how every weight starts; biases start at zero.
    """

    image: tuple[int, int, int] = (8, 8, 1)
    classes: int = 10
    encoder: ImageEncoder = DenseEncoder()
    bottleneck: KeyValueBottleneck | None = None
    head: ClassHead = LinearHead()
    init: Initializer = FanIn(2**0.5)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "classes")
        if min(self.image) < 1:
            yield Problem("image", self.image, "must be height, width and channels, each at least 1")

    def build(self, *, rngs: nnx.Rngs) -> FeatureClassifierNetwork:
        return FeatureClassifierNetwork(self, ParamFactory(rngs.params(), self.init))


class FeatureClassifierNetwork(Network):
    """Tap sites: "features", those of the bottleneck, and "logits"."""

    reads = ("images",)

    def __init__(self, spec: FeatureClassifier, make: ParamFactory):
        self.image = spec.image
        self.encoder = spec.encoder.build(spec.image, make.at("encoder"))
        width = features = spec.encoder.features(spec.image)
        if spec.bottleneck is not None:
            self.bottleneck = spec.bottleneck.build(features, make.at("bottleneck"))
            width = spec.bottleneck.value_width
        try:
            self.head = spec.head.build(width, spec.classes, features, make.at("head"))
        except ValueError as error:
            raise spec.invalid("head", str(error)) from error

    def forward(self, inputs, ctx, cache):
        """Raises ValueError for images of another shape than the model's."""
        images = inputs.images
        if images.shape[1:] != tuple(self.image):
            raise ValueError(f"images have the shape {images.shape[1:]}; this model reads {tuple(self.image)}")
        dtype = jax.tree.leaves(nnx.state(self.encoder, nnx.Param))[0].dtype  # the type of the computation
        x = ctx.tap("features", self.encoder(images.astype(dtype), ctx))
        if hasattr(self, "bottleneck"):
            x = self.bottleneck(x, ctx)
        return Output(ctx.tap("logits", self.head(x)), None, None)

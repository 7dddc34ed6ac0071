"""A small convolutional residual network for images (arXiv 2309.08414).

x = relu(conv(image)),  x = stack(x),  logits = W flatten(x) + b
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from flax import nnx

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm
from arch.layers.convolution import Convolution, ConvolutionLayer
from arch.layers.heads.class_heads import ClassHead, LinearHead
from arch.layers.init.initializers import FanIn, Initializer
from arch.layers.norms.common import NoNorm
from arch.models.base import Classification, Model, Network, Output
from arch.params import ParamFactory
from arch.sharding import constrain, residual_axes
from arch.spec import COUNTED, DEEPEST, Problem, at_least, at_most
from arch.stacks.base import Pattern, Stack
from arch.stacks.sequential import Sequential
from arch.taps import NoTap


@dataclasses.dataclass(frozen=True)
class ConvResidual(Model, Classification):
    """Images [B, H, W, C] to logits [B, classes].

    Attributes:
      image: H, W and C of an image.
      classes: how many there are.
      width: D, the filters of every convolution.
      depth: L, the residual modules.
      block: what a module is.
      stack: how modules make depth.
      stem: the convolution from the image to the stream.
      head: from the flattened stream to logits.
      init: how every weight starts.
    """

    image: tuple[int, int, int] = (8, 8, 1)
    classes: int = 10
    width: int = 16
    depth: int = 8
    block: Block | Pattern = PreNorm(mixer=Convolution(), feed_forward=None, norm=NoNorm())
    stack: Stack = Sequential()
    stem: Convolution = Convolution()
    head: ClassHead = LinearHead()
    init: Initializer = FanIn()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "classes", "width", "depth")
        yield from at_most(self, DEEPEST, "depth")
        yield from at_most(self, COUNTED, "width")
        if min(self.image) < 1:
            yield Problem("image", self.image, "must be height, width and channels, each at least 1")

    def build(self, *, rngs: nnx.Rngs) -> ConvResidualNetwork:
        return ConvResidualNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))

    def determination(self, rows: int, parameters: int) -> float:
        """Q = K M / P: constraints that K training rows of M outputs put on each of P parameters."""
        return rows * self.classes / parameters


class ConvResidualNetwork(Network):
    """Logits of each image. Tap sites: those of the blocks, "embed" and "logits"."""

    reads = ("images",)

    def __init__(self, spec: ConvResidual, make: ParamFactory):
        height, width, channels = spec.image
        self.image = spec.image
        self.stem = ConvolutionLayer(spec.stem, channels, spec.width, make.at("stem"), "linear")
        self.stack = spec.stack.build(spec.block, spec.width, spec.depth, make.at("stack"))
        features = math.prod((height, width, spec.width))
        self.head = spec.head.build(features, spec.classes, spec.width, make.at("head"))

    def forward(self, inputs, ctx, cache):
        """Raises ValueError for images of another shape than the model's."""
        images_BHWC = inputs.images
        if images_BHWC.shape[1:] != tuple(self.image):
            raise ValueError(f"images have the shape {images_BHWC.shape[1:]}; this model reads {tuple(self.image)}")
        x, *_ = self.stem(images_BHWC.astype(self.stem.kernel.dtype), ctx.replace(tap=NoTap()))
        x, _ = self.stack(ctx.tap("embed", constrain(x, residual_axes(x.ndim))), ctx)
        return Output(ctx.tap("logits", self.head(x.reshape(x.shape[0], -1))), None, x)

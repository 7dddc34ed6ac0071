"""A small convolutional residual network for images (arXiv 2309.08414).

x = relu(conv(image)),  x = stack(x),  logits = W flatten(x) + b
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks import Block, PreNorm
from arch.context import Context, Keep
from arch.layers.class_heads import ClassHead, LinearHead
from arch.layers.convolution import Convolution, ConvolutionLayer
from arch.layers.initializers import FanIn, Initializer
from arch.layers.norms import NoNorm
from arch.models.base import Model
from arch.models.decoder import Output
from arch.params import Maker
from arch.sharding import constrain, residual_axes
from arch.spec import Problem, at_least
from arch.stacks import Sequential, Stack
from arch.taps import NoTap, Tap


@dataclasses.dataclass(frozen=True)
class ConvResidual(Model):
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
    block: Block = PreNorm(mixer=Convolution(), feed_forward=None, norm=NoNorm())
    stack: Stack = Sequential()
    stem: Convolution = Convolution()
    head: ClassHead = LinearHead()
    init: Initializer = FanIn()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "classes", "width", "depth")
        if min(self.image) < 1:
            yield Problem("image", self.image, "must be height, width and channels, each at least 1")

    def build(self, *, rngs: nnx.Rngs) -> ConvResidualModel:
        return ConvResidualModel(self, Maker(rngs.params(), self.init, self.depth))

    def determination(self, rows: int, parameters: int) -> float:
        """Q = K M / P: constraints that K training rows of M outputs put on each of P parameters."""
        return rows * self.classes / parameters


class ConvResidualModel(nnx.Module):
    def __init__(self, spec: ConvResidual, make: Maker):
        height, width, channels = spec.image
        self.image = spec.image
        self.stem = ConvolutionLayer(spec.stem, channels, spec.width, make.at("stem"), "linear")
        self.stack = spec.stack.build(spec.block, spec.width, spec.depth, make.at("stack"))
        features = math.prod((height, width, spec.width))
        self.head = spec.head.build(features, spec.classes, spec.width, make.at("head"))

    def __call__(
        self,
        image_BHWC: Float[Array, "B H W C"],
        *,
        key: jax.Array | None = None,
        keep: Keep = Keep(),
        tap: Tap | None = None,
    ) -> Output:
        """Logits of each image. `key`, `keep` and `tap` as in `DecoderModel`.

        Raises:
          ValueError: images of another shape than the model's, or a tap at a site that it does not have.
        """
        if image_BHWC.shape[1:] != tuple(self.image):
            raise ValueError(f"images have the shape {image_BHWC.shape[1:]}; this model reads {tuple(self.image)}")
        recorder = NoTap() if tap is None else tap.recorder()
        places = np.zeros((1, 1), np.int32)  # no part of this model asks where it is
        ctx = Context(places, None, places, None, key=key, keep=keep, tap=recorder)
        x, *_ = self.stem(image_BHWC.astype(self.stem.kernel.dtype), ctx.replace(tap=NoTap()))
        x = recorder("embed", constrain(x, residual_axes(x.ndim)))
        (x, _, aux), taps = self.stack(x, ctx)
        logits = recorder("logits", self.head(x.reshape(x.shape[0], -1)))
        recorder.check()
        return Output(logits, None, dict(aux), {**taps, **recorder.collect()})

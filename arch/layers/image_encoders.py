"""Encoders of images for models that go on from one vector an image, and the decoder that is their mirror image.

`DenseEncoder` is act(W x + b); frozen at its random start it gives random features. `ConvEncoder` and `ConvDecoder` are
the halves of a convolutional autoencoder (arXiv 1710.04806, section 3): kernels with stride 2 that pad as "SAME".

On CPU a convolution is one matrix product of all neighbourhoods, as in `arch/layers/convolution.py`.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.feed_forward import ACTIVATIONS, Activation
from arch.layers.linear import Dense
from arch.layers.shapes import align, contract
from arch.params import ParamFactory
from arch.sharding import platform
from arch.spec import Problem, Spec, at_least, one_of

Image = tuple[int, int, int]
STRIDE = 2


@dataclasses.dataclass(frozen=True)
class ImageEncoder(Spec, abc.ABC):
    """From images [B, H, W, C] to vectors [B, m]."""

    @abc.abstractmethod
    def features(self, image: Image) -> int:
        """m, for images of this shape."""

    @abc.abstractmethod
    def build(self, image: Image, make: ParamFactory) -> Any:
        """The encoder: `encoder(images [B, H, W, C], ctx) -> [B, m]`."""


@dataclasses.dataclass(frozen=True)
class DenseEncoder(ImageEncoder):
    """act(W flatten(x) + b) of `width` units; b starts at zero."""

    width: int = 256
    activation: Activation = "relu"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "width")
        yield from one_of(self, "activation", get_args(Activation))

    def features(self, image: Image) -> int:
        return self.width

    def build(self, image, make):
        return DenseEncoderLayer(self, image, make)


class DenseEncoderLayer(nnx.Module):
    def __init__(self, spec: DenseEncoder, image: Image, make: ParamFactory):
        self.activation = spec.activation
        inputs, outputs = [(math.prod(image), None)], [(spec.width, "mlp")]
        self.hidden = Dense(bias=True).build(inputs, outputs, make, name="hidden", role="feed_forward")

    def __call__(self, x: Float[Array, "B H W C"], ctx: Context) -> Float[Array, "B m"]:
        return ACTIVATIONS[self.activation](self.hidden(x.reshape(x.shape[0], -1)))


@dataclasses.dataclass(frozen=True)
class ConvEncoder(ImageEncoder):
    """Convolutions with stride 2 and ReLU, one after another, flattened: 28 x 28 becomes 2 x 2 x 10 by the default.

    `channels` of each, `kernel` their extent along both axes.
    """

    channels: tuple[int, ...] = (32, 32, 32, 10)
    kernel: int = 3

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, STRIDE, "kernel")
        if min(self.channels, default=0) < 1:
            yield Problem("channels", self.channels, "must be those of each layer, at least 1")

    def places(self, image: Image) -> list[tuple[int, int]]:
        """Height and width before the first layer and after each."""
        sizes = [image[:2]]
        for _ in self.channels:
            height, width = sizes[-1]
            sizes.append((-(-height // STRIDE), -(-width // STRIDE)))
        return sizes

    def features(self, image: Image) -> int:
        return math.prod(self.places(image)[-1]) * self.channels[-1]

    def build(self, image, make):
        return ConvEncoderLayer(self, image, make)


class _Kernels(nnx.Module):
    """Kernels [k, k, in, out] and biases [out] of layers of these channels, one after another."""

    def __init__(self, kernel: int, channels: list[int], make: ParamFactory):
        self.kernels: Any = nnx.Dict()
        self.biases: Any = nnx.Dict()
        for index, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
            sizes = [(kernel, None), (kernel, None), (inputs, None)]
            self.kernels[str(index)] = make.weight(f"kernel{index}", sizes, [(outputs, None)])
            self.biases[str(index)] = make.constant([(outputs, None)], 0.0)


class ConvEncoderLayer(_Kernels):
    def __init__(self, spec: ConvEncoder, image: Image, make: ParamFactory):
        super().__init__(spec.kernel, [image[2], *spec.channels], make)

    def __call__(self, x: Float[Array, "B H W C"], ctx: Context) -> Float[Array, "B m"]:
        for index, kernel in self.kernels.items():
            pads = [_same(size, kernel.shape[0]) for size in x.shape[1:3]]
            y = convolved(x, kernel[...], pads, STRIDE)
            x = jax.nn.relu(y + align(self.biases[index][...], y))
        return x.reshape(x.shape[0], -1)


@dataclasses.dataclass(frozen=True)
class ConvDecoder(Spec):
    """The mirror image of a `ConvEncoder`: transposed convolutions with ReLU, the last with a sigmoid.

    It takes the encoder's sizes and channels, backwards.
    """

    def build(self, encoder: ConvEncoder, image: Image, make: ParamFactory) -> ConvDecoderLayer:
        return ConvDecoderLayer(encoder, image, make)


class ConvDecoderLayer(_Kernels):
    """[B, m] to images [B, H, W, C]."""

    def __init__(self, encoder: ConvEncoder, image: Image, make: ParamFactory):
        super().__init__(encoder.kernel, [image[2], *encoder.channels][::-1], make)
        self.places, self.channels = tuple(encoder.places(image)[::-1]), encoder.channels[-1]

    def __call__(self, code: Float[Array, "B m"]) -> Float[Array, "B H W C"]:
        x = code.reshape(code.shape[0], *self.places[0], self.channels)
        last = len(self.kernels) - 1
        for step, (index, kernel) in enumerate(self.kernels.items()):
            wide, extent = dilated(x), kernel.shape[0]
            pads = []
            for size, spread in zip(self.places[step + 1], wide.shape[1:3], strict=True):
                before = extent - 1 - _same(size, extent)[0]  # of the convolution that this one is the transpose of
                pads.append((before, size + extent - 1 - spread - before))
            y = convolved(wide, kernel[...], pads, 1)
            y = y + align(self.biases[index][...], y)
            x = jax.nn.sigmoid(y) if step == last else jax.nn.relu(y)
        return x


def _same(size: int, extent: int) -> tuple[int, int]:
    """The padding with which a kernel of `extent` with stride 2 gives ceil(size / 2) places."""
    total = max((-(-size // STRIDE) - 1) * STRIDE + extent - size, 0)
    return total // 2, total - total // 2


def dilated(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """With a row and a column of zeros between each two."""
    batch, height, width, channels = x.shape
    wide = jnp.zeros((batch, height, STRIDE, width, STRIDE, channels), x.dtype).at[:, :, 0, :, 0].set(x)
    wide = wide.reshape(batch, height * STRIDE, width * STRIDE, channels)
    return wide[:, : height * STRIDE - 1, : width * STRIDE - 1]


def convolved(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"], pads: list[tuple[int, int]], stride: int
) -> Float[Array, "B h w D"]:
    """The convolution of `x`, padded with zeros before and after by `pads` along both axes; negative ones cut off."""
    if platform() != "cpu":
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=layout)
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    extent = kernel.shape[0]
    spans = [size - extent + 1 for size in padded.shape[1:3]]
    windows = [
        padded[:, i : i + spans[0] : stride, j : j + spans[1] : stride] for i in range(extent) for j in range(extent)
    ]
    return contract(jnp.concatenate(windows, axis=-1), kernel.reshape(-1, kernel.shape[-1]))

"""Convolution over places: act(conv(x) + b), of the size of its input.

The stream of an image is [B, H, W, D], that of a sequence [B, T, D]: the number of spatial axes is the length of
`kernel`. As a mixer in a block it is the residual module of convolutional networks, `x + relu(conv(x))` being
`PreNorm(mixer=Convolution(), feed_forward=None, norm=NoNorm())`.

On CPU it is one matrix product of all neighbourhoods with the kernel: XLA's own convolution is up to seven times slower
there inside a scan, in the gradients of an ensemble.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.caches import Room
from arch.layers.feed_forward import ACTIVATIONS, Activation
from arch.layers.shapes import align, contract
from arch.layers.sublayer import Mixer
from arch.params import ParamFactory
from arch.sharding import platform
from arch.spec import Problem, one_of

LETTERS = "HWD"


@dataclasses.dataclass(frozen=True)
class Convolution(Mixer):
    """Convolution with a bias, padded with zeros to the size of its input, then an activation.

    Attributes:
      kernel: its extent along each spatial axis.
      activation: applied last, inside the module: the identity path of a residual block stays clean.
    """

    kernel: tuple[int, ...] = (3, 3)
    activation: Activation = "relu"

    @property
    def causal(self):
        return all(size == 1 for size in self.kernel)

    def problems(self) -> Iterator[Problem]:
        if not 1 <= len(self.kernel) <= len(LETTERS) or any(size < 1 for size in self.kernel):
            yield Problem("kernel", self.kernel, "must be one to three sizes of at least 1, one for each spatial axis")
        yield from one_of(self, "activation", get_args(Activation))

    def build(self, width, make):
        return ConvolutionLayer(self, width, width, make, "residual")


class ConvolutionLayer(nnx.Module):
    """From `inputs` to `outputs` channels; `role` is passed to the initialiser."""

    def __init__(self, spec: Convolution, inputs: int, outputs: int, make: ParamFactory, role: str):
        self.activation, self.axes = spec.activation, len(spec.kernel)
        places = [(size, None) for size in spec.kernel]
        self.kernel = make.weight("kernel", [*places, (inputs, None)], [(outputs, "embed")], role)
        self.bias = make.constant([(outputs, "embed")], 0.0)

    def init_cache(self, room: Room) -> Any:
        """Refuses: a padded convolution sees what comes after a place, so it cannot go on from a cache."""
        raise ValueError("Convolution sees both sides of a place and has no cache; it cannot generate token by token")

    def __call__(self, x: Float[Array, "B *T C"], ctx: Context) -> Result:
        if x.ndim != self.axes + 2:
            raise ValueError(f"Convolution has {self.axes} spatial axes; its input has the shape {x.shape}")
        y = (as_product if platform() == "cpu" else as_convolution)(x, self.kernel[...])
        pre = ctx.tap("conv.pre", y + align(self.bias[...], y))
        return Result(ctx.tap("conv.post", ACTIVATIONS[self.activation](pre)))


def as_convolution(x: Float[Array, "B *T C"], kernel: Float[Array, "*K C D"]) -> Float[Array, "B *T D"]:
    """By XLA's convolution."""
    places = LETTERS[: x.ndim - 2]
    layout = (f"N{places}C", f"{places}IO", f"N{places}C")
    return jax.lax.conv_general_dilated(x, kernel, (1,) * len(places), "SAME", dimension_numbers=layout)


def as_product(x: Float[Array, "B *T C"], kernel: Float[Array, "*K C D"]) -> Float[Array, "B *T D"]:
    """By one matrix product: the neighbours of each place side by side, against the kernel as a matrix."""
    sizes = kernel.shape[:-2]
    padded = jnp.pad(x, [(0, 0), *(((size - 1) // 2, size // 2) for size in sizes), (0, 0)])

    def window(offset: tuple[int, ...]) -> jax.Array:
        spans = (slice(start, start + size) for start, size in zip(offset, x.shape[1:-1], strict=True))
        return padded[:, *spans]

    windows = [window(offset) for offset in np.ndindex(*sizes)]
    return contract(jnp.concatenate(windows, axis=-1), kernel.reshape(-1, kernel.shape[-1]))

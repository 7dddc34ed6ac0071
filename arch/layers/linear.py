"""Linear kinds: how a linear map between named dimensions is parameterised.

Every projection of every part is built by the `linear` field of that part, so that a low-rank or adapted kind replaces
all of them in one place.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float

from arch.layers.shapes import align, contract
from arch.params import ParamFactory, Size
from arch.spec import Spec


@dataclasses.dataclass(frozen=True)
class Linear(Spec, abc.ABC):
    """A linear map from the last `len(inputs)` dimensions to `outputs`."""

    @abc.abstractmethod
    def build(
        self, inputs: Sequence[Size], outputs: Sequence[Size], make: ParamFactory, *, name: str, role: str = "linear"
    ) -> nnx.Module:
        """The map called `name`; `role` (see `ParamFactory.weight`) is passed to the initialiser."""


@dataclasses.dataclass(frozen=True)
class Dense(Linear):
    """y = x W, or x W + b."""

    bias: bool = False

    def build(self, inputs, outputs, make, *, name, role="linear"):
        return DenseLayer(self, inputs, outputs, make.at(name), role)


class DenseLayer(nnx.Module):
    def __init__(self, spec: Dense, inputs: Sequence[Size], outputs: Sequence[Size], make: ParamFactory, role: str):
        self.contracted = len(inputs)
        self.kernel = make.weight("kernel", inputs, outputs, role)
        if spec.bias:
            self.bias = make.constant(outputs, 0.0)

    def __call__(self, x: Float[Array, "*in"]) -> Float[Array, "*out"]:
        y = contract(x, self.kernel[...], self.contracted)
        return y + align(self.bias[...], y) if hasattr(self, "bias") else y

"""How a tensor of a checkpoint lies in memory against our arrays, both ways.

Our kernels are [inputs..., outputs...] with heads apart; torch's linears are [outputs, inputs], GPT-2's the other way
round; some checkpoints keep several matrices in one tensor.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

Shape = tuple[int, ...]
Arrays = Sequence[np.ndarray]


class Layout(abc.ABC):
    """`join` makes the tensor of our arrays, `split` undoes it, `shape` is that of what `join` returns."""

    @abc.abstractmethod
    def join(self, arrays: Arrays) -> np.ndarray: ...

    @abc.abstractmethod
    def split(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> Arrays:
        """Our arrays of `shapes`."""

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.join([np.broadcast_to(np.float32(0), shape) for shape in shapes]).shape


@dataclasses.dataclass(frozen=True)
class Flat(Layout):
    """The same numbers in one order: tables and gains as they are, biases of heads [N, K] as [N K]."""

    axes: int = 1
    """Dimensions of the tensor; our leading ones are flattened into its first."""

    def join(self, arrays):
        (array,) = arrays
        return array.reshape(-1, *array.shape[array.ndim - self.axes + 1 :])

    def split(self, tensor, shapes):
        return [tensor.reshape(shapes[0])]


@dataclasses.dataclass(frozen=True)
class Linear(Layout):
    """[outputs, inputs] of a kernel [inputs..., outputs...], of which the first `inputs` are inputs."""

    inputs: int = 1

    def join(self, arrays):
        (kernel,) = arrays
        return kernel.reshape(math.prod(kernel.shape[: self.inputs]), -1).T

    def split(self, tensor, shapes):
        return [tensor.T.reshape(shapes[0])]


@dataclasses.dataclass(frozen=True)
class Conv1D(Layout):
    """[inputs, outputs], as in GPT-2."""

    inputs: int = 1

    def join(self, arrays):
        (kernel,) = arrays
        return kernel.reshape(math.prod(kernel.shape[: self.inputs]), -1)

    def split(self, tensor, shapes):
        return [tensor.reshape(shapes[0])]


@dataclasses.dataclass(frozen=True)
class Joined(Layout):
    """Several arrays, each in the layout `each`, one after another along `axis`."""

    each: Layout
    axis: int = 0

    def join(self, arrays):
        return np.concatenate([self.each.join([array]) for array in arrays], axis=self.axis)

    def split(self, tensor, shapes):
        sizes = [self.each.shape([shape])[self.axis] for shape in shapes]
        pieces = np.split(tensor, np.cumsum(sizes)[:-1], axis=self.axis)
        return [self.each.split(piece, [shape])[0] for piece, shape in zip(pieces, shapes, strict=True)]


@dataclasses.dataclass(frozen=True)
class ByHead(Layout):
    """q, k and v of one head, then of the next: [N 3 K, D] of kernels [D, N, K], [N 3 K] of biases [N, K]
    (GPT-NeoX)."""

    def join(self, arrays):
        heads = [np.moveaxis(array, 0, -1) if array.ndim == 3 else array for array in arrays]  # [N, K, D] or [N, K]
        whole = np.stack(heads, axis=1)
        return whole.reshape(-1, *whole.shape[3:])

    def split(self, tensor, shapes):
        (N, K), rest = shapes[0][-2:], tensor.shape[1:]
        whole = tensor.reshape(N, len(shapes), K, *rest)
        return [np.moveaxis(whole[:, i], -1, 0) if rest else whole[:, i] for i in range(len(shapes))]


@dataclasses.dataclass(frozen=True)
class Less(Layout):
    """A gain of which the tensor holds what it is more than `one` (Gemma)."""

    one: float = 1.0

    def join(self, arrays):
        return arrays[0] - np.float32(self.one)

    def split(self, tensor, shapes):
        return [tensor + np.float32(self.one)]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint.

    Attributes:
      name: in the checkpoint.
      paths: of our arrays that it holds.
      layout: how.
      copies: further names under which the checkpoint may hold the same numbers.
      written: whether the copies are written as well, because a reader that ties nothing needs them.
    """

    name: str
    paths: tuple[str, ...]
    layout: Layout
    copies: tuple[str, ...] = ()
    written: bool = False

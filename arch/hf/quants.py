"""Numbers as GGUF files store them -> float32: blocks of 32 weights with a scale, and a least value or none.

    Q8_0   w = d q            d float16, q int8
    Q4_0   w = d (q - 8)      d float16, q of 4 bits
    Q4_1   w = d q + m        d and m float16, q of 4 bits

Of two weights in a byte, the low half is weight i of the block and the high half weight i + 16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import ml_dtypes
import numpy as np


@dataclasses.dataclass(frozen=True)
class Quantisation:
    """A way of storing numbers.

    Attributes:
      name: as in the format.
      weights, size: how many numbers a block holds, and in how many bytes.
      decode: uint8 [blocks, size] -> float32 [blocks, weights].
    """

    name: str
    weights: int
    size: int
    decode: Callable[[np.ndarray], np.ndarray]


def _plain(dtype: type | np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    return lambda raw: raw.view(np.dtype(dtype).newbyteorder("<")).astype(np.float32)


def _halves(raw: np.ndarray) -> np.ndarray:
    """[blocks, 16] bytes -> [blocks, 32] numbers of 4 bits."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.float32)


def _scale(raw: np.ndarray, place: int) -> np.ndarray:
    """The float16 at byte `place` of each block, float32 [blocks, 1]."""
    return np.ascontiguousarray(raw[:, place : place + 2]).view("<f2").astype(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    return _scale(raw, 0) * raw[:, 2:].view(np.int8)


def _q4_0(raw: np.ndarray) -> np.ndarray:
    return _scale(raw, 0) * (_halves(raw[:, 2:]) - np.float32(8))


def _q4_1(raw: np.ndarray) -> np.ndarray:
    return _scale(raw, 0) * _halves(raw[:, 4:]) + _scale(raw, 2)


KINDS = {
    0: Quantisation("F32", 1, 4, _plain(np.float32)),
    1: Quantisation("F16", 1, 2, _plain(np.float16)),
    2: Quantisation("Q4_0", 32, 18, _q4_0),
    3: Quantisation("Q4_1", 32, 20, _q4_1),
    8: Quantisation("Q8_0", 32, 34, _q8_0),
    30: Quantisation("BF16", 1, 2, _plain(ml_dtypes.bfloat16)),
}
"""Number of the type in the file -> how it is read."""

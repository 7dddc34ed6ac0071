"""The safetensors format, written and read one tensor at a time: 8 bytes of length, a JSON header, the numbers.

Files are those of the `safetensors` package (github.com/huggingface/safetensors, README); writing needs no more memory
than one tensor, and reading maps the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from arch.spec import UserError

TYPES: dict[str, Any] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in TYPES.items()}
LONGEST = 100_000_000
"""Bytes of a header, as in the package."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Name, type and shape of a tensor that is to be written."""

    name: str
    dtype: Any
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def header(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    """The length and the header of a file with `entries` in order, padded to 8 bytes."""
    held: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for entry in entries:
        end = at + entry.nbytes
        told = {"dtype": NAMES[np.dtype(entry.dtype)], "shape": list(entry.shape), "data_offsets": [at, end]}
        held[entry.name], at = told, end
    text = json.dumps(held, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write(file: BinaryIO, array: np.ndarray) -> None:
    """The numbers of a tensor."""
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read(path: Path) -> dict[str, np.ndarray]:
    """Name -> array, mapped from the file. Raises UserError for a file that is cut off or is none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(LONGEST, size - 8):
                raise UserError(f"{path}: is cut off, or is no safetensors file")
            held = json.loads(file.read(length))
        held.pop("__metadata__", None)
        found = {name: _entry(path, name, told) for name, told in held.items()}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: is no safetensors file ({error})") from error
    at = 0
    for entry, (first, last) in sorted(found.values(), key=lambda one: one[1]):
        if first != at or last - first != entry.nbytes:
            raise UserError(f"{path}: {entry.name} does not lie where its header says; the file is damaged")
        at = last
    if 8 + length + at != size:
        raise UserError(f"{path}: is cut off, {size:,} bytes where its header has {8 + length + at:,}")
    data = np.memmap(path, np.uint8, "r", 8 + length) if at else np.zeros(0, np.uint8)
    return {
        name: data[first:last].view(entry.dtype).reshape(entry.shape) for name, (entry, (first, last)) in found.items()
    }


def _entry(path: Path, name: str, told: Any) -> tuple[Entry, tuple[int, int]]:
    kind, shape, (first, last) = told["dtype"], told["shape"], told["data_offsets"]
    if kind not in TYPES:
        raise UserError(f"{path}: {name} is of type {kind}; {', '.join(TYPES)} are read")
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, first, last)):
        raise ValueError(f"{name} has no shape or no place")
    return Entry(name, TYPES[kind], tuple(shape)), (first, last)

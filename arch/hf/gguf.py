"""GGUF files (versions 2 and 3, little-endian): metadata by key, tensors by name. Nothing in them is executed.

"GGUF", version u32, tensors u64, keys u64
each key:     name, type u32, value;   text is length u64 and UTF-8; an array is type u32, length u64, ...
each tensor:  name, dimensions u32, sizes u64 (innermost first), type u32, place u64 behind the head
the numbers, each tensor at a multiple of `general.alignment` (32)
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arch.hf.quants import KINDS, Quantisation
from arch.spec import UserError

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Type of a value -> its code in `struct`."""
TEXT, ARRAY = 8, 9
VERSIONS = (2, 3)
DIMENSIONS = 4
"""Of a tensor, at most."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor in a file: `shape` with the innermost dimension last, `raw` its bytes, mapped."""

    shape: tuple[int, ...]
    kind: Quantisation
    raw: np.ndarray

    def array(self) -> np.ndarray:
        """Its numbers, float32."""
        return self.kind.decode(self.raw.reshape(-1, self.kind.size)).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class GGUF:
    """What a file holds: `metadata` by key, floats of 32 bits as the shortest decimal that stands for them."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]


def opened(path: Path) -> GGUF:
    """The file at `path`.

    Raises:
      UserError: in one line: it cannot be read, is another format, is cut off, or has numbers that are not read here.
    """
    try:
        content = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    cursor = _Cursor(path, content)
    if bytes(content[:4]) != b"GGUF":
        raise UserError(f"{path}: is no GGUF file; it begins with {bytes(content[:4])!r}")
    version, tensors, keys = cursor.numbers("4xIQQ")
    if version not in VERSIONS:
        raise UserError(f"{path}: is GGUF of version {version}; read are {' and '.join(map(str, VERSIONS))}")
    metadata = dict(cursor.entry() for _ in cursor.times(keys, 12))
    named = [cursor.tensor() for _ in cursor.times(tensors, 24)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment < 1:
        raise UserError(f"{path}: general.alignment={alignment!r}: must be a whole number above 0")
    begin = -(-cursor.at // alignment) * alignment
    found: dict[str, Stored] = {}
    for name, shape, type_, place in named:
        if type_ not in KINDS:
            known = ", ".join(kind.name for kind in KINDS.values())
            raise UserError(f"{path}: {name} has numbers of type {type_}; read are {known}")
        kind = KINDS[type_]
        if name in found:
            raise UserError(f"{path}: the tensor {name} is in it twice")
        if not shape or shape[-1] % kind.weights:
            raise UserError(f"{path}: {name} of shape {list(shape)} is not whole {kind.name} blocks of {kind.weights}")
        size = math.prod(shape) // kind.weights * kind.size
        if begin + place + size > len(content):
            raise UserError(f"{path}: is cut off: {name} ends at byte {begin + place + size:,} of {len(content):,}")
        found[name] = Stored(shape, kind, content[begin + place : begin + place + size])
    return GGUF(path, metadata, found)


class _Cursor:
    """A place in the head of a file, going forward; reading beyond the end is a UserError."""

    def __init__(self, path: Path, content: np.ndarray):
        self.path, self.content, self.at = path, content, 0

    def take(self, size: int) -> bytes:
        begin, self.at = self.at, self.at + size
        if self.at > len(self.content):
            raise UserError(f"{self.path}: is cut off: byte {self.at:,} is needed, of {len(self.content):,}")
        return self.content[begin : self.at].tobytes()

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def times(self, count: int, least: int) -> range:
        """`count` things of `least` bytes each at least. Raises UserError where there is no room for so many."""
        if count * least > len(self.content) - self.at:
            raise UserError(f"{self.path}: is cut off: {count:,} entries do not fit {len(self.content):,} bytes")
        return range(count)

    def text(self) -> str:
        (length,) = self.numbers("Q")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: is damaged: no UTF-8 before byte {self.at:,}") from error

    def entry(self) -> tuple[str, Any]:
        name = self.text()
        (kind,) = self.numbers("I")
        return name, self.value(name, kind)

    def value(self, name: str, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        if kind in NUMBERS:
            (number,) = self.numbers(NUMBERS[kind])
            return float(str(np.float32(number))) if NUMBERS[kind] == "f" else number
        if kind != ARRAY:
            raise UserError(f"{self.path}: is damaged: {name} has a value of type {kind}")
        inner, length = self.numbers("IQ")
        if inner == TEXT:
            return [self.text() for _ in self.times(length, 8)]
        if inner not in NUMBERS:
            raise UserError(f"{self.path}: {name} is an array of type {inner}, which is not read")
        size = len(self.times(length, struct.calcsize("<" + NUMBERS[inner])))
        return list(self.numbers(f"{size}{NUMBERS[inner]}"))

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, shape with the innermost dimension last, type, place)."""
        name = self.text()
        (dimensions,) = self.numbers("I")
        if dimensions > DIMENSIONS:
            raise UserError(f"{self.path}: is damaged: {name} has {dimensions} dimensions")
        *sizes, kind, place = self.numbers(f"{dimensions}QIQ")
        return name, tuple(reversed(sizes)), kind, place

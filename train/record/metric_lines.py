"""The lines of `metrics.jsonl`, read from the end in blocks: a run of a million lines resumes in seconds, and in little
memory. A line that is no metric (torn, not UTF-8, of something else) stops nobody: it is passed over, and reported.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from etils import epath

BLOCK = 2**20
"""Bytes that are read at once."""

LONGEST = 2**24
"""Bytes of a line; what is longer is no metric, and its middle is not looked at."""


def parsed(line: bytes) -> dict[str, Any] | None:
    """The metrics of a line; None if it is no JSON object with a whole number `step`."""
    try:
        found: dict[str, Any] = json.loads(line.decode())
        return found if isinstance(found["step"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def backwards(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its newline) of the lines of a file that are not empty, from the last to the first."""
    at = stream.seek(0, 2)
    rest = b""  # of the line whose beginning is not read yet
    while at > 0:
        size = min(BLOCK, at)
        at -= size
        stream.seek(at)
        first, *lines = stream.read(size).split(b"\n")
        if not lines:
            rest = (first + rest)[:LONGEST]
            continue
        place = at + size
        for number, line in enumerate(reversed(lines)):
            place -= len(line)
            if whole := line if number else line + rest:
                yield place, whole
            place -= 1
        rest = first
    if rest:
        yield 0, rest


def kept(stream: BinaryIO, step: int) -> int:
    """How many bytes of a file come before what is later than `step`: to the end of the last whole line that is not."""
    size = stream.seek(0, 2)
    for place, line in backwards(stream):
        found = parsed(line)
        if found is not None and found["step"] <= step:
            return min(place + len(line) + 1, size)
    return 0


def of_step(stream: BinaryIO, step: int) -> Iterator[dict[str, Any]]:
    """The metrics of one step, the last written first."""
    for _, line in backwards(stream):
        found = parsed(line)
        if found is not None and found["step"] == step:
            yield found
        elif found is not None and found["step"] < step:
            return


@dataclasses.dataclass
class Count:
    """What a file holds so far: bytes, lines, and a CRC-32 of all. A checkpoint has that of its moment."""

    size: int = 0
    lines: int = 0
    crc: int = 0

    def add(self, content: bytes) -> None:
        """Goes on with what comes next in the file."""
        self.size += len(content)
        self.lines += content.count(b"\n")
        self.crc = zlib.crc32(content, self.crc)


def counted(stream: BinaryIO, end: int | None = None) -> Count:
    """The count of the first `end` bytes of a file, or of those it has; None: of all."""
    count = Count()
    stream.seek(0)
    while block := stream.read(BLOCK if end is None else min(BLOCK, end - count.size)):
        count.add(block)
    return count


def read(path: epath.Path, note: Callable[[str], None]) -> list[dict[str, Any]]:
    """All metrics of a file; `note` gets one line if there are lines that are none, but for a torn last one."""
    found, strange = list[dict[str, Any]](), list[int]()
    number = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            metrics = parsed(line)
            if metrics is None:
                strange.append(number)
            else:
                found.append(metrics)
    if strange and strange != [number]:
        some = f"lines {strange[0]} and {len(strange) - 1} more are" if strange[1:] else f"line {strange[0]} is"
        note(f"{path}: {some} no metrics (a JSON object with a whole number `step`) and left out")
    return found

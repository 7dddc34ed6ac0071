"""What a data file holds: text, JSON lines or Parquet, found by the ending of its name in any case, else by content."""

from __future__ import annotations

import json
import re
from pathlib import Path

from arch.spec import UserError

TEXT, JSONL, PARQUET = "text", "jsonl", "parquet"
ENDINGS = {
    **dict.fromkeys((".txt", ".text", ".md"), TEXT),
    **dict.fromkeys((".jsonl", ".ndjson", ".jl", ".json"), JSONL),
    **dict.fromkeys((".parquet", ".parq", ".pq"), PARQUET),
}
PACKED_ENDINGS = (".gz", ".gzip", ".tgz", ".bz2", ".xz", ".zst", ".zstd", ".zip", ".lz4", ".7z")
PACKED = re.compile(
    rb"\x1f\x8b\x08|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x28\xb5\x2f\xfd|PK\x03\x04|\x04\x22\x4d\x18|7z\xbc\xaf\x27\x1c"
)
"""How files begin that are gzip, bzip2, xz, Zstandard, zip, LZ4 or 7z."""
MARK = b"PAR1"
FIRST = {".jsonl": JSONL, ".ndjson": JSONL, ".parquet": PARQUET}
"""What version 2 of `LocalText` took a file for, by these endings alone; all others were text."""


def kind_of(path: Path) -> str:
    """What the file is. Raises UserError if it is compressed, OSError if it cannot be read."""
    refuse_packed(path)
    content = by_content(path)
    return content if content == PARQUET else ENDINGS.get(path.suffix.lower(), content or TEXT)


def refuse_packed(path: Path) -> None:
    """Raises UserError for a compressed file."""
    with path.open("rb") as stream:
        head = stream.read(16)
    if path.name.lower().endswith(PACKED_ENDINGS) or PACKED.match(head):
        raise UserError(f"{path} is compressed; unpack it first")


def by_content(path: Path) -> str | None:
    """What the content alone is; None: a file without any."""
    with path.open("rb") as stream:
        if stream.read(len(MARK)) == MARK and stream.seek(0, 2) > 2 * len(MARK):
            stream.seek(-len(MARK), 2)
            if stream.read() == MARK:
                return PARQUET
        stream.seek(0)
        first = next((line for line in stream if line.strip()), None)
    if first is None:
        return None
    try:
        return JSONL if b"{" in first[:64] and isinstance(json.loads(first), dict) else TEXT
    except (ValueError, RecursionError):
        return TEXT


def told_apart(path: Path, kind: str) -> str | None:
    """`kind` where the content alone does not tell it, or where version 2 read the file as another; else None.

    So equal content that is read in two ways has two names, and what was read rightly keeps the one it had.
    """
    return kind if kind != (by_content(path) or kind) or kind != FIRST.get(path.suffix, TEXT) else None

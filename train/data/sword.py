"""Bibles in the SWORD project's zText format with OSIS markup, read without the SWORD library.

Each testament (`ot`, `nt`) is three files of little-endian integers. `.bzs`: for each compressed block its offset in
`.bzz`, its size there, its size unpacked (uint32 each). `.bzv`: for each entry the number of its block (uint32), its
offset in the unpacked block (uint32) and its size (uint16; zText4: uint32). `.bzz`: the blocks, compressed by zlib.
Entries are those of a versification, in order: two headings, then of each book an introduction and of each of its
chapters an introduction and the verses. The chapter tags in the introductions tell where the chapters are, so that no
table of versifications is needed; what is left of the entries are verses, counted from 1.
"""

from __future__ import annotations

import html
import re
import struct
import zlib
from collections.abc import Iterator, Mapping

Verse = tuple[str, int]
"""A chapter, as in "Gen.1", and the number of a verse in it."""

OPENS = re.compile(r"<(?:chapter|div)\b[^>]*\bsID=[^>]*>")
NAME = re.compile(r'\bosisID="([^"]+)"')
CLOSES = re.compile(r"<chapter\b[^>]*\beID=.*", re.DOTALL)
ASIDE = re.compile(r"<(note|title|rdg)\b[^>]*?(?:/>|>.*?</\1>)", re.DOTALL)
IN_WORD = re.compile(r"</?(?:w|q|hi|seg|divineName|name)\b[^>]*>")
TAG = re.compile(r"<[^>]*>")
BEFORE_MARK = re.compile("\\s+([,.;:!?\u201d\u2019)])")


def verses(files: Mapping[str, bytes]) -> dict[Verse, str]:
    """Verse -> its text without markup, notes and headings; verses without text are left out.

    `files` are the files of both testaments by their names. Raises ValueError, KeyError, struct.error or zlib.error for
    what is not in the format.
    """
    found: dict[Verse, str] = {}
    for testament in ("ot", "nt"):
        chapter, number = "", 0
        for entry in entries(*(files[f"{testament}.{part}"] for part in ("bzs", "bzv", "bzz"))):
            opened = opens(entry)
            if opened is not None:
                chapter, number = opened, 0
                continue
            number += 1
            text = plain(entry) if chapter else ""
            if text:
                found[chapter, number] = text
    return found


def entries(blocks: bytes, index: bytes, packed: bytes) -> Iterator[str]:
    """The entries of a testament, from its .bzs, .bzv and .bzz."""
    unpacked = [zlib.decompress(packed[start : start + size]) for start, size, _ in struct.iter_unpack("<III", blocks)]
    layout = "<IIH" if len(index) % 12 or not _fits("<III", index, unpacked) else "<III"
    for block, start, size in struct.iter_unpack(layout, index):
        yield unpacked[block][start : start + size].decode() if size else ""


def opens(entry: str) -> str | None:
    """The chapter that an introduction opens, "" for that of a book; None: it is no introduction."""
    tags = [tag for tag in OPENS.findall(entry) if tag.startswith("<chapter") or 'type="book"' in tag]
    if not tags:
        return None
    name = NAME.search(tags[-1])
    return name[1] if name and tags[-1].startswith("<chapter") else ""


def plain(entry: str) -> str:
    """The text of a verse: what stands before the end of its chapter, without notes, headings and tags."""
    text = ASIDE.sub(" ", CLOSES.sub("", entry))
    text = html.unescape(TAG.sub(" ", IN_WORD.sub("", text)))
    return BEFORE_MARK.sub(r"\1", " ".join(text.replace("¶", " ").split()))


def _fits(layout: str, index: bytes, unpacked: list[bytes]) -> bool:
    return all(block < len(unpacked) and start + size <= len(unpacked[block])
               for block, start, size in struct.iter_unpack(layout, index) if size)  # fmt: skip

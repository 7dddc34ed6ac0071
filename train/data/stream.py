"""The token stream of a split: every document as [bos] text [eos], one after the other, flat in a file of the cache.

Tokenising happens once; the file is named by what it was made of, and is read through a memory map.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from arch.spec import UserError
from train.data import cache
from train.data.base import Progress, Tokenizer
from train.data.corpus import READ_AT_ONCE, Source

VERSION = 2  # of the files; raise it when their layout or the cleaning of text changes


@dataclasses.dataclass(frozen=True)
class Stream:
    """The tokens of a split [tokens], the ends of its documents in it [documents], and its text in UTF-8 bytes."""

    tokens: np.ndarray
    ends: np.ndarray
    text_bytes: int


def streams(source: Source, tokenizer: Tokenizer, progress: Progress) -> tuple[str, dict[str, Stream]]:
    """A name of the content, and the stream of each split; tokenises what is not in the cache."""
    key = cache.digest("stream", VERSION, source.identity(), tokenizer.fingerprint)

    def make(folder: Path) -> None:
        corpus = source.build(progress)
        about = {}
        for split in source.splits:
            texts, total = corpus.texts(split), len(corpus.splits[split])
            about[split] = {"text_bytes": write(folder, split, texts, tokenizer, corpus.name, progress, total)}
        (folder / "about.json").write_text(json.dumps(about))

    folder = cache.entry("tokens", key, make)
    about = json.loads((folder / "about.json").read_text())
    return key, {split: read(folder, split, tokenizer, about[split]["text_bytes"]) for split in source.splits}


def read(folder: Path, name: str, tokenizer: Tokenizer, text_bytes: int) -> Stream:
    """What `write` wrote under `name`; the tokens through a memory map."""
    tokens = np.memmap(folder / f"{name}.tokens", _dtype(tokenizer), mode="r")
    return Stream(tokens, np.load(folder / f"{name}.ends.npy"), text_bytes)


def _dtype(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    """The smallest type that holds every token id."""
    return np.uint8 if tokenizer.vocab <= 2**8 else np.uint16 if tokenizer.vocab <= 2**16 else np.uint32


def write(
    folder: Path, name: str, texts: Iterable[str], tokenizer: Tokenizer, where: str, progress: Progress, total: int
) -> int:
    """Writes the stream of all texts that are not empty; returns their bytes.

    `total` is their number, passed to `progress`. Raises UserError, naming `where`, if there are none or the
    tokenizer does not keep their bytes.
    """
    sizes: list[int] = []
    text_bytes = 0
    with (folder / f"{name}.tokens").open("wb") as out:
        for group in _groups(iter(texts)):
            clean = getattr(tokenizer, "clean", str)  # what it reads of a text, whose bytes are counted
            kept = [text for text in (clean(text.replace("\0", "")) for text in group) if text]
            for text, ids in zip(kept, tokenizer.encode_batch(kept), strict=True):
                expected = len(text.encode())
                if int(tokenizer.token_bytes[ids].sum()) != expected:
                    raise UserError(f"{where}: the tokenizer does not keep the bytes of the {name} document "
                                    f"{text[:60]!r}...; losses in bits per byte would be wrong")  # fmt: skip
                text_bytes += expected
                sizes.append(len(ids) + 2)
                np.concatenate([[tokenizer.bos], ids, [tokenizer.eos]]).astype(_dtype(tokenizer)).tofile(out)
            progress(f"tokenise {name}", len(sizes), total)
    if not sizes:
        raise UserError(f"{where}: no text in split {name!r}")
    progress(f"tokenise {name}", total, total)
    np.save(folder / f"{name}.ends.npy", np.cumsum(sizes, dtype=np.int64))
    return text_bytes


def _groups(texts: Iterator[str]) -> Iterator[list[str]]:
    while group := list(itertools.islice(texts, READ_AT_ONCE)):
        yield group

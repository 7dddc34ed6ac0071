"""The token stream of a split: every document as [bos] text [eos], one after the other, flat in a file of the cache.

Tokenising happens once; the file is named by what it was made of, and is read through a memory map.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from arch.spec import UserError
from train.data import cache
from train.data.base import Progress, Tokenizer
from train.data.corpus import READ_AT_ONCE, Corpus, Source

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
        about = {split: _write(corpus, split, tokenizer, folder, progress) for split in source.splits}
        (folder / "about.json").write_text(json.dumps(about))

    folder = cache.entry("tokens", key, make)
    about = json.loads((folder / "about.json").read_text())
    return key, {
        split: Stream(
            np.memmap(folder / f"{split}.tokens", _dtype(tokenizer), mode="r"),
            np.load(folder / f"{split}.ends.npy"),
            about[split]["text_bytes"],
        )
        for split in source.splits
    }


def _dtype(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    """The smallest type that holds every token id."""
    return np.uint8 if tokenizer.vocab <= 2**8 else np.uint16 if tokenizer.vocab <= 2**16 else np.uint32


def _write(corpus: Corpus, split: str, tokenizer: Tokenizer, folder: Path, progress: Progress) -> dict[str, int]:
    sizes: list[int] = []
    text_bytes = 0
    total = len(corpus.splits[split])
    with (folder / f"{split}.tokens").open("wb") as out:
        for texts in _groups(text for text in corpus.texts(split)):
            kept = [text for text in (text.replace("\0", "") for text in texts) if text]
            for text, ids in zip(kept, tokenizer.encode_batch(kept), strict=True):
                expected = len(text.encode())
                if int(tokenizer.token_bytes[ids].sum()) != expected:
                    raise UserError(f"{corpus.name}: the tokenizer does not keep the bytes of the {split} document "
                                    f"{text[:60]!r}...; losses in bits per byte would be wrong")  # fmt: skip
                text_bytes += expected
                sizes.append(len(ids) + 2)
                np.concatenate([[tokenizer.bos], ids, [tokenizer.eos]]).astype(_dtype(tokenizer)).tofile(out)
            progress(f"tokenise {split}", len(sizes), total)
    if not sizes:
        raise UserError(f"{corpus.name}: no text in split {split!r}")
    progress(f"tokenise {split}", total, total)
    np.save(folder / f"{split}.ends.npy", np.cumsum(sizes, dtype=np.int64))
    return {"text_bytes": text_bytes}


def _groups(texts: Iterator[str]) -> Iterator[list[str]]:
    while group := list(itertools.islice(texts, READ_AT_ONCE)):
        yield group

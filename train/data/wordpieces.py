"""Word pieces: subwords that carry the space before their word, learnt from characters (GNMT, arXiv 1609.08144).

The pieces of GNMT are chosen to make the training text likely; here they are merged by frequency (BPE, Sennrich et al.,
arXiv 1508.07909), which the `tokenizers` library learns from the same words. Learnt from both sides of pairs they are
one inventory that source and target share.

A word begins with the marker U+2581, which stands for the space before it, so that the pieces of a text are the text,
byte by byte; the first word of a text has none. Punctuation stands alone. Characters too rare for the inventory are
spelt in bytes, where GNMT has an unknown token. U+2581 in a text reads as a space.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arch.spec import Problem, UserError, at_least, between
from train.data import cache
from train.data.base import Progress, silent
from train.data.corpus import Source
from train.data.tokenizers import BPETokenizer, TokenizerSpec, Tokens, up_to

VERSION = 1  # raise it when the same text gives other pieces
MARKER = "\u2581"
BEGIN, END = "<s>", "</s>"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
FIXED = (BEGIN, END, *BYTES)


@dataclasses.dataclass(frozen=True)
class WordPieces(TokenizerSpec):
    """Pieces learnt from the data: of GNMT's size, 8,192 to 32,768, for millions of pairs; fewer for less text.

    Token 0 begins texts, 1 ends them, 2 to 257 are the bytes; there is no mask, no separator, and no padding token:
    segments mark padding. Data too small for `vocab` pieces leave the last ids unused.

    Attributes:
      vocab: V, tokens in all.
      coverage: share of the training text whose characters are pieces of their own, most frequent first; the other
        characters are spelt in bytes.
      sample: bytes of text to learn from, at most.
      source: learns from its train split; None: from the data that is to be tokenised.
    """

    vocab: int = 8192
    coverage: float = 0.9995
    sample: int = 100_000_000
    source: Source | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, len(FIXED) + 1, "vocab")
        yield from between(self, 0, 1, "coverage")
        yield from at_least(self, 1, "sample")

    def describe(self) -> Tokens:
        return Tokens(self.vocab)

    def build(self, source: Source | None = None, progress: Progress = silent) -> WordPieceTokenizer:
        """Raises UserError if there is no text to learn from, or it has more characters than `vocab` allows."""
        source = self.source or source
        if source is None:
            raise UserError("WordPieces learns from text: build it with a source, or give it one")

        def make(folder: Path) -> None:
            progress(f"train WordPieces {self.vocab}", 0, 1)
            texts = list(up_to(self.sample, source.build(progress).texts("train")))
            (folder / "tokenizer.json").write_text(self._learnt(texts), encoding="utf-8")
            progress(f"train WordPieces {self.vocab}", 1, 1)

        key = cache.digest("wordpieces", VERSION, source.identity(), self.vocab, self.coverage, self.sample)
        folder = cache.entry("tokenizers", key, make)
        return WordPieceTokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"), self.vocab)

    def _learnt(self, texts: list[str]) -> str:
        characters = covering(texts, self.coverage)
        least = len(FIXED) + len(characters)
        if least > self.vocab:
            what = (
                f"{len(FIXED)} fixed tokens and the {len(characters)} characters that cover {self.coverage:.2%} of the"
            )
            raise self.invalid("vocab", f"must be at least {least}: {what} text; or lower coverage")
        return train_pieces(texts, self.vocab, len(characters))


def covering(texts: Iterable[str], coverage: float) -> list[str]:
    """The most frequent characters that make up that share of the texts; the marker, for the space, is one."""
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(text.replace(" ", MARKER))
    needed = coverage * counts.total()
    found: list[str] = []
    for character, count in counts.most_common():
        if needed <= 0:
            break
        found.append(character)
        needed -= count
    return found


def train_pieces(texts: Iterable[str], vocab: int, characters: int) -> str:
    """Learns at most `vocab` tokens, `FIXED` and that many characters among them; in the tokenizer.json format."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Library(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(MARKER, prepend_scheme="never"), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace(MARKER, " "), decoders.ByteFallback(), decoders.Fuse()])
    room = vocab - len(FIXED)
    trainer = trainers.BpeTrainer(vocab_size=room, limit_alphabet=characters, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    definition: dict[str, Any] = json.loads(tokenizer.to_str())
    learnt = sorted(definition["model"]["vocab"].items(), key=lambda item: item[1])
    definition["model"]["vocab"] = {token: i for i, token in enumerate([*FIXED, *(token for token, _ in learnt)])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition["added_tokens"] = [{"id": i, "content": token, **flags} for i, token in enumerate((BEGIN, END))]
    return json.dumps(definition, ensure_ascii=False)


class WordPieceTokenizer(BPETokenizer):
    """See `WordPieces`."""

    def __init__(self, definition: str, vocab: int):
        super().__init__(definition, BEGIN, END, vocab, "WordPieces")

    def clean(self, text: str) -> str:
        """What is read of a text: the marker is a space in it."""
        return text.replace(MARKER, " ")

    def encode(self, text: str) -> list[int]:
        return super().encode(self.clean(text))

    def encode_batch(self, texts):
        return super().encode_batch([self.clean(text) for text in texts])

    def _count_bytes(self) -> np.ndarray:
        """Bytes of each token [vocab]: 1 of a byte, those of its text of a piece, none of a special token."""
        table = np.zeros(self.vocab, np.int32)
        for token, index in self._tokenizer.get_vocab().items():
            table[index] = len(token.replace(MARKER, " ").encode())
        table[: len(FIXED)] = [0, 0, *[1] * 256]
        return table

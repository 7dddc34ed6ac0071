"""Tokenizers: bytes, byte-pair encoding trained on the data, and byte-level BPE loaded from a tokenizer.json.

All of them are exact on bytes: the bytes that the tokens of a text stand for are the text. That makes losses of
different tokenizers comparable as bits per byte.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arch.spec import Problem, Spec, UserError, at_least
from train.data import cache, definitions
from train.data.base import Progress, Tokenizer, silent
from train.data.corpus import Source
from train.data.description import Description
from train.data.paths import expanded
from train.data.tokenizer_draws import draws_switched_off

END = "<|endoftext|>"
PROBES = ("a", " a  b\n\n c", "\tI'd say 1234: naïve Σ \u4e2d\u6587 \U0001f600!", "A\u0301 \ufb01 \u00c5")
# Names under which published tokenizers keep their special tokens, best first.
BEGINS = ("<|begin_of_text|>", "<s>", "<bos>", END, "<|im_start|>")
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")
MASKS = ("<mask>", "[MASK]", "<|mask|>")
SEPARATORS = ("<sep>", "[SEP]", "<|sep|>")


@dataclasses.dataclass(frozen=True)
class TokenizerSpec(Spec, abc.ABC):
    """Base of every tokenizer."""

    @abc.abstractmethod
    def build(self, source: Source | None = None, progress: Progress = silent) -> Tokenizer:
        """The tokenizer; one that learns from text learns from the train split of `source`."""

    @abc.abstractmethod
    def describe(self) -> Tokens:
        """What is known of the tokenizer before it has learned from any text."""


@dataclasses.dataclass(frozen=True)
class Tokens:
    """`vocab`, `token_bytes` (None: not known yet), `mask` and `separator` as in `Description`."""

    vocab: int
    token_bytes: np.ndarray | None = None
    mask: int | None = None
    separator: int | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Tokens:
        """Those of a tokenizer that is there."""
        return cls(tokenizer.vocab, tokenizer.token_bytes, tokenizer.mask, tokenizer.separator)

    def into(self, description: Description) -> Description:
        """The description of data in these tokens."""
        return dataclasses.replace(description, **vars(self))


@dataclasses.dataclass(frozen=True)
class Bytes(TokenizerSpec):
    """One token a byte of UTF-8, 256 in all. Bytes that no text holds are the special tokens: 0 begins and ends
    documents, 0xFE (254) separates two texts, 0xFF (255) is the mask."""

    def describe(self) -> Tokens:
        return Tokens.of(ByteTokenizer())

    def build(self, source: Source | None = None, progress: Progress = silent) -> ByteTokenizer:
        return ByteTokenizer()


@dataclasses.dataclass(frozen=True)
class BPE(TokenizerSpec):
    """Byte-level byte-pair encoding (Sennrich et al., arXiv:1508.07909; GPT-2's pre-tokenizer), learnt from the data.

    Token 0 begins and ends documents; there is no mask and no separator. Data too small for `vocab` merges leave the
    last ids unused.
    """

    vocab: int = 4096
    sample: int = 100_000_000  # bytes of text to learn from, at most; documents lie in random order
    source: Source | None = None  # learns from its train split; None: from the data that is to be tokenised

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 257, "vocab")
        yield from at_least(self, 1, "sample")

    def describe(self) -> Tokens:
        return Tokens(self.vocab)

    def build(self, source: Source | None = None, progress: Progress = silent) -> BPETokenizer:
        source = self.source or source
        if source is None:
            raise UserError("BPE learns from text: build it with a source, or load one with TokenizerFile")

        def make(folder: Path) -> None:
            progress(f"train BPE {self.vocab}", 0, 1)
            trained = train_bpe(up_to(self.sample, source.build(progress).texts("train")), self.vocab)
            (folder / "tokenizer.json").write_text(trained, encoding="utf-8")
            progress(f"train BPE {self.vocab}", 1, 1)

        folder = cache.entry("tokenizers", cache.digest("bpe", 1, source.identity(), self.vocab, self.sample), make)
        return BPETokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"), END, END, self.vocab)


@dataclasses.dataclass(frozen=True)
class TokenizerFile(TokenizerSpec):
    """A byte-level BPE from a tokenizer.json, such as those of GPT-2, Llama 3 or SmolLM2."""

    path: str
    bos: str | None = None  # special tokens that begin and end a document; None: the usual names
    eos: str | None = None

    def describe(self) -> Tokens:
        """Reads the file. Raises SpecError if it is no such tokenizer."""
        return Tokens.of(self.build())

    def identity(self) -> str:
        """Of the file's content. Raises SpecError if it cannot be read."""
        try:
            return cache.file_sha256(expanded(self.path))
        except OSError as error:
            raise self.invalid("path", f"cannot be read ({error.strerror})") from error

    def build(self, source: Source | None = None, progress: Progress = silent) -> BPETokenizer:
        path = expanded(self.path)
        try:
            text = path.read_text(encoding="utf-8")
            added = [token["content"] for token in json.loads(text)["added_tokens"] if token["special"]]
        except OSError as error:
            raise self.invalid("path", f"cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self.invalid("path", "is not a tokenizer.json") from error
        chosen = {}
        for field, usual in (("bos", BEGINS), ("eos", ENDS)):
            wanted = getattr(self, field)
            found = [name for name in ((wanted,) if wanted else usual) if name in added]
            if not found:
                listed = ", ".join(map(str, added)) or "none"
                raise self.invalid(field, f"must be one of the special tokens of {path}: {listed}")
            chosen[field] = found[0]
        mask, separator = (next((name for name in usual if name in added), None) for usual in (MASKS, SEPARATORS))
        return BPETokenizer(text, chosen["bos"], chosen["eos"], name=str(path), mask=mask, separator=separator)


class ByteTokenizer:
    """See `Bytes`."""

    _special = frozenset((0, 0xFE, 0xFF))
    vocab, bos, eos, fingerprint = 256, 0, 0, "bytes"
    separator: int | None = 0xFE
    mask: int | None = 0xFF

    def __init__(self) -> None:
        self.token_bytes = np.ones(256, np.int32)
        self.token_bytes[list(self._special)] = 0

    def definition(self) -> str:
        """In the tokenizer.json format: a byte-level BPE without merges, whose ids are the bytes."""
        from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Library

        shown = _characters_of_bytes()
        names = {0: END, 0xFE: SEPARATORS[0], 0xFF: MASKS[0]}
        vocab = {names.get(byte, shown[byte]): byte for byte in range(256)}
        tokenizer = Library(models.BPE(vocab=vocab, merges=[]))
        tokenizer.normalizer = normalizers.Replace("\0", "")
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names.values()])
        text: str = tokenizer.to_str()
        return text

    def encode(self, text: str) -> list[int]:
        return list(text.replace("\0", "").encode())

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.replace("\0", "").encode(), np.uint8) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids above the bytes, which a model of a larger vocabulary may write, stand for nothing."""
        return bytes(i for i in map(int, ids) if i < 256 and i not in self._special).decode(errors="replace")


class BPETokenizer:
    """A byte-level BPE. Special tokens are never found in text: text that spells one out is text."""

    def __init__(
        self,
        definition: str,
        bos: str,
        eos: str,
        vocab: int | None = None,
        name: str = "tokenizer",
        mask: str | None = None,
        separator: str | None = None,
    ):
        import tokenizers

        definitions.check(definition, name)
        with definitions.loading(name):
            self._tokenizer = tokenizers.Tokenizer.from_str(definition)
            if draws_switched_off(self._tokenizer, name):
                definition = self._tokenizer.to_str()
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self._tokenizer.encode_special_tokens = True
            index: dict[str, int] = self._tokenizer.get_vocab()
            self.bos, self.eos = index[bos], index[eos]
            self.mask, self.separator = (None if name is None else index[name] for name in (mask, separator))
            self.vocab = vocab or max(index.values()) + 1
            self.token_bytes = self._count_bytes()
            self.fingerprint = cache.digest(definition, self.bos, self.eos, self.vocab)
            for probe in PROBES:
                ids = self.encode(probe)
                if self.token_bytes[ids].sum() != len(probe.encode()) or self.decode(ids) != probe:
                    raise UserError(f"{name} does not keep the bytes of {probe!r} (it gives {self.decode(ids)!r}): it "
                                    "must be byte-level BPE without normalizer and without prefix space")  # fmt: skip

    def _count_bytes(self) -> np.ndarray:
        """Bytes of text that each token stands for, [vocab]."""
        return _token_bytes(self._tokenizer, self.vocab)

    def definition(self) -> str:
        """In the tokenizer.json format: what other libraries open."""
        text: str = self._tokenizer.to_str()
        return text

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, np.int64) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)


def up_to(limit: int, texts: Iterable[str]) -> Iterator[str]:
    """The first of `texts`, until they come to `limit` bytes."""
    done = 0
    for text in texts:
        yield text
        done += len(text.encode())
        if done >= limit:
            return


def train_bpe(texts: Iterator[str], vocab: int) -> str:
    """Learns a byte-level BPE of at most `vocab` tokens; returns it in the tokenizer.json format."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Library(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


@functools.cache
def _byte_characters() -> frozenset[str]:
    """The 256 characters that byte-level BPE writes bytes as."""
    from tokenizers import pre_tokenizers

    return frozenset(pre_tokenizers.ByteLevel.alphabet())


def _characters_of_bytes() -> list[str]:
    """The character that byte-level BPE writes each byte as (GPT-2): itself, or one from 256 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    later = iter(range(256, 512))
    return [chr(byte) if byte in seen else chr(next(later)) for byte in range(256)]


def _token_bytes(tokenizer: Any, vocab: int) -> np.ndarray:
    """Bytes of each token [vocab]: one a character; those of an added token are its text, of a special one none."""
    table = np.zeros(vocab, np.int32)
    for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
        table[index] = len(token) if set(token) <= _byte_characters() else 0
    for index, token in tokenizer.get_added_tokens_decoder().items():
        table[index] = 0 if token.special else len(token.content.encode())
    return table

"""The tokenizer in the metadata of a GGUF file, as a tokenizer.json: byte-level BPE, its tokens and merges in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arch.spec import UserError

PRE = "tokenizer.ggml.pre"
NORMAL, CONTROL, DEFINED = 1, 3, 4
"""Kinds of tokens: learned; that no text holds; that are found in text as they are."""


def definition(metadata: Mapping[str, Any]) -> str:
    """In the tokenizer.json format. Raises UserError: one line about a tokenizer of another kind, or a damaged one."""
    from tokenizers import AddedToken, decoders, models
    from tokenizers import Tokenizer as Library

    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise UserError(f"tokenizer.ggml.model={kind!r} is not read; 'gpt2' is, byte-level BPE")
    if metadata.get("tokenizer.ggml.add_space_prefix", False):
        raise UserError("tokenizer.ggml.add_space_prefix=True is not read: texts would not keep their bytes")
    tokens, merges = (_words(metadata, f"tokenizer.ggml.{name}") for name in ("tokens", "merges"))
    vocab = {token: place for place, token in enumerate(tokens)}
    pairs: list[Any] = [tuple(merge.split(" ")) for merge in merges]
    if len(vocab) < len(tokens):
        raise UserError("tokenizer.ggml.tokens: has a token twice")
    odd = next((pair for pair in pairs if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys()), None)
    if odd is not None:
        raise UserError(f"tokenizer.ggml.merges: {' '.join(odd)!r} is not two tokens that make a third")
    kinds = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise UserError("tokenizer.ggml.token_type: must say the kind of each token")
    tokenizer = Library(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = _cutter(metadata.get(PRE, "default"))
    tokenizer.decoder = decoders.ByteLevel()
    for token, what in zip(tokens, kinds, strict=True):
        if what in (CONTROL, DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=what == CONTROL, normalized=False)])
    text: str = tokenizer.to_str()
    return text


def ends(metadata: Mapping[str, Any]) -> dict[str, str]:
    """`bos` and `eos` -> the tokens that begin and end a text, where the file says so."""
    tokens = _words(metadata, "tokenizer.ggml.tokens")
    found = {}
    for name in ("bos", "eos"):
        place = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(place, int) and 0 <= place < len(tokens):
            found[name] = tokens[place]
    return found


def _words(metadata: Mapping[str, Any], key: str) -> list[str]:
    value = metadata.get(key)
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise UserError(f"{key}: must be a list of texts")
    return value


def _cutter(name: Any) -> Any:
    """How text is cut before the merges, by the name that the format has for it."""
    from tokenizers import pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known = {"default": words, "gpt-2": words, "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), words]
    )}  # fmt: skip
    if name not in known:
        raise UserError(f"{PRE}={name!r} is not read; these are: {', '.join(known)}")
    return known[name]

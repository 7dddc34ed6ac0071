"""What a folder of Transformers says of its tokenizer beside tokenizer.json: the tokens that begin and end a text, and
the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arch.hf.reading import object_of

SETTINGS = "tokenizer_config.json"
CONFIGURATIONS = ("generation_config.json", "config.json")
"""Where the ids of those tokens stand, the first that has them."""


def ends(folder: Path, tokenizer: Path) -> dict[str, str]:
    """`bos` and `eos` -> special tokens of the file `tokenizer`, as far as the folder names any: by their text, or by
    their ids. Of several ends the first that is named counts. Raises UserError for a file that is no JSON object."""
    special = {token["id"]: token["content"] for token in _list(_object(tokenizer).get("added_tokens"))
               if isinstance(token, Mapping) and token.get("special") and {"id", "content"} <= set(token)}  # fmt: skip
    settings, found = _object(folder / SETTINGS), {}
    for name in ("bos", "eos"):
        told = settings.get(f"{name}_token")
        told = told.get("content") if isinstance(told, Mapping) else told
        ids = (_object(folder / file).get(f"{name}_token_id") for file in CONFIGURATIONS)
        words = [told, *(special.get(one) for some in ids for one in _list(some) if isinstance(one, int))]
        known = [word for word in words if isinstance(word, str) and word in special.values()]
        if known:
            found[name] = known[0]
    return found


def template(folder: Path) -> str | None:
    """The chat template in the settings of the tokenizer; of several that which is called default."""
    found = _object(folder / SETTINGS).get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, Mapping)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _object(file: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty where there is no file."""
    return object_of(file) if file.exists() else {}

"""The tokenizer of a run in the files that Transformers opens it from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from arch.spec import UserError

TOKENIZER, SETTINGS, SOURCE = "tokenizer.json", "tokenizer_config.json", "source_tokenizer.json"


def files(dataset: Any, context: int, mask: int | None = None) -> Mapping[str, str]:
    """Name -> text; nothing for data without text.

    Args:
      dataset: what the run was trained on.
      context: the longest row of tokens.
      mask: id of the mask token, where the objective has one of its own.
    """
    tokenizer = getattr(dataset, "tokenizer", None)
    if tokenizer is None:
        return {}
    definition = getattr(tokenizer, "definition", None)
    if definition is None:
        raise UserError(
            f"{type(tokenizer).__name__} has no definition() in the tokenizer.json format; it is not exported"
        )
    text = definition()
    names = _names(text)
    told: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    ids = {"bos": tokenizer.bos, "eos": tokenizer.eos, "pad": tokenizer.eos, "sep": tokenizer.separator, "mask": mask}
    told |= {f"{kind}_token": names[id_] for kind, id_ in ids.items() if id_ is not None and id_ in names}
    found = {TOKENIZER: text, SETTINGS: json.dumps(told, indent=2, ensure_ascii=False) + "\n"}
    source = getattr(dataset, "source_tokenizer", None)
    if source is not None and source.fingerprint != tokenizer.fingerprint:
        found[SOURCE] = source.definition()
    return found


def _names(definition: str) -> dict[int, str]:
    """Id -> token."""
    held = json.loads(definition)
    names = {index: token for token, index in held["model"]["vocab"].items()}
    return names | {token["id"]: token["content"] for token in held["added_tokens"]}

"""The tokenizer of a run in the files that Transformers opens it from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from arch.models.base import Causal, Model, Seq2Seq
from arch.spec import UserError
from train.data.tokenizers import TokenizerFile
from train.run import Run

TOKENIZER, SETTINGS, SOURCE = "tokenizer.json", "tokenizer_config.json", "source_tokenizer.json"


def files(run: Run, dataset: Any, context: int, mask: int | None = None) -> Mapping[str, str]:
    """Name -> text; nothing for data without text.

    The tokens that begin and end what the model was trained on are put there by the tokenizer, so that text given to it
    is what `generate` gives; a tokenizer that came from a file stays as it came.

    Args:
      run: what was trained.
      dataset: what it was trained on.
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
    if not isinstance(getattr(run.data, "tokenizer", None), TokenizerFile):
        text = framed(text, run.model, tokenizer.bos, tokenizer.eos)
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
        found[SOURCE] = framed(source.definition(), run.model, source.bos, source.eos)
    return found


def framed(definition: str, model: Model, bos: int, eos: int) -> str:
    """`definition` with the special tokens that rows have: [bos] text of a causal model, text [eos] of what an
    encoder-decoder reads, [bos] text [eos] of others."""
    names, held = _names(definition), json.loads(definition)
    begins, ends = not isinstance(model, Seq2Seq), isinstance(model, Seq2Seq) or not isinstance(model, Causal)
    if bos not in names or eos not in names:
        return definition

    def special(token: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": names[token], "type_id": 0}}

    def row(*letters: str) -> list[dict[str, Any]]:
        texts = [{"Sequence": {"id": letter, "type_id": 0}} for letter in letters]
        return [*([special(bos)] if begins else []), *texts, *([special(eos)] if ends else [])]

    template = {
        "type": "TemplateProcessing",
        "single": row("A"),
        "pair": row("A", "B"),
        "special_tokens": {names[id_]: {"id": names[id_], "ids": [id_], "tokens": [names[id_]]} for id_ in (bos, eos)},
    }
    before = held.get("post_processor")
    held["post_processor"] = template if before is None else {"type": "Sequence", "processors": [before, template]}
    return json.dumps(held, ensure_ascii=False)


def _names(definition: str) -> dict[int, str]:
    """Id -> token."""
    held = json.loads(definition)
    names = {index: token for token, index in held["model"]["vocab"].items()}
    return names | {token["id"]: token["content"] for token in held["added_tokens"]}

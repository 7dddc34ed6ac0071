"""The files of code of a folder: which class opens it, and what is written into each."""

from __future__ import annotations

import dataclasses

from arch.hf.generated.compose import compose, text_of
from arch.hf.generated.table import MIXERS, TWINS
from arch.hf.generated.teller import Teller

CONFIGURATION, MODELING, LENS = "configuration_strata", "modeling_strata", "lens_strata"


@dataclasses.dataclass(frozen=True)
class Task:
    """The class with a head: its source, its name, the Auto class that opens it, and of the class without a head the
    source and the name."""

    source: str
    name: str
    auto: str
    logits: bool = True
    base: tuple[str, str] = ("trunk", "StrataModel")


PAIR, TRANSLATOR = (
    Task("seq2seq", "StrataForConditionalGeneration", "AutoModelForSeq2SeqLM", base=base)
    for base in (("pair", "StrataPairModel"), ("gnmt", "StrataGNMTModel"))
)
SOFTMAX = ("Attention", "BiasedAttention", "CrossAttention")


def files(teller: Teller, task: Task, tied: bool, shared: bool, capped: bool) -> dict[str, str]:
    """The code. `shared`: whether an encoder looks tokens up in the decoder's table."""
    kinds = {kind: twin.name for kind, twin in teller.kinds.items()}
    softmax = [kind for kind in SOFTMAX if kind in kinds]
    first = TWINS[softmax[0]].name if softmax else ""
    mixing = {kind for kind in kinds if kind in MIXERS}
    table = "model.decoder" if task in (PAIR, TRANSLATOR) else "model"
    constants = {
        "BLOCKS": repr(sorted(twin.name for twin in teller.kinds.values() if twin.splits)),
        "SDPA": str(not capped),
        "FLASH": str(mixing == {"Attention"}),
        "RECORDED": f'{{"attentions": {first}}}' if softmax else "{}",
        "TIED": f'{{"lm_head.weight": "{table}.embed_tokens.weight"}}' if tied else "None",
        "BASE": task.base[1],
        "SHARED": '{"encoder.embed_tokens.weight": "decoder.embed_tokens.weight"}' if shared else "None",
    }
    sources = [*(twin.source for twin in teller.kinds.values()), task.base[0], task.source]
    title = f"A model written by Strata, made of {', '.join(sorted(kinds))}. PyTorch and Transformers alone."
    modeling = compose(sources, _wrapped(title), kinds, constants)
    lens = {f"{LENS}.py": text_of("lens")} if task.auto == "AutoModelForCausalLM" else {}
    return {f"{CONFIGURATION}.py": text_of("configuration"), f"{MODELING}.py": modeling, **lens}


def _wrapped(title: str) -> str:
    words, lines = title.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 110:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "")

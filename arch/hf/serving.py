"""Whether servers run an exported folder, known before anybody starts one: rules on its source and configuration.

They mirror what vLLM's `model_executor/models/transformers` and SGLang's `srt/models/transformers.py` of mid 2026 do
with code of a folder's own: they make the attention, the linear maps, the norms and `lm_head` themselves, hand no
masks, and lay the tokens of many requests in one row. `arch.hf.dry_run` does the same where PyTorch is installed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from arch.hf.source_rules import Source

NATIVE = frozenset({
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM", "Olmo2ForCausalLM",
    "GPT2LMHeadModel", "GPTNeoXForCausalLM",
})  # fmt: skip
"""Classes of Transformers that both servers have code of their own for."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What each says to a folder: "" for yes, else why not."""

    transformers: str
    vllm: str
    sglang: str

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if self.transformers:
            return f"does not open in Transformers ({self.transformers})"
        if self.vllm and self.vllm == self.sglang:
            return f"Transformers only ({self.vllm})"
        said = {"served by vLLM": self.vllm, "by SGLang": self.sglang}
        told = ", ".join(f"{who}: {f'no ({why})' if why else 'yes'}" for who, why in said.items())
        return f"opens in Transformers: yes; {told}"


def verdict(folder: Path) -> Verdict:
    """The verdict of the rules on a folder. Raises OSError, ValueError if its files cannot be read."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "auto_map" not in config:
        name = next(iter(config.get("architectures", [])), "")
        why = "" if name in NATIVE else f"{name or 'no class'}: they have no class of that name to generate with"
        return Verdict("", why, why)
    unsafe = outside(config["auto_map"], folder)
    if unsafe:
        return Verdict(unsafe, unsafe, unsafe)
    module = config["auto_map"]["AutoModel"].partition(".")[0] if "AutoModel" in config["auto_map"] else ""
    if not module:
        return Verdict("", *["auto_map has no AutoModel, which they look at first"] * 2)
    source = Source((folder / f"{module}.py").read_text(encoding="utf-8"))
    broken = next(source.opens(), "")
    if broken:
        return Verdict(broken, broken, broken)
    both = next((why for rule in RULES for why in rule(config, source)), "")
    return Verdict("", both, both or next(source.norms(), ""))


def outside(auto_map: Mapping[str, str], folder: Path) -> str:
    """What in `auto_map` is no file of the folder; "" if all is."""
    for auto, name in auto_map.items():
        module, _, cls = name.partition(".")
        if not (module.isidentifier() and cls.isidentifier() and (folder / f"{module}.py").is_file()):
            return f"auto_map.{auto}={name!r} is no class of a file in the folder"
    return ""


def generates(config: Mapping[str, Any], source: Source) -> Iterator[str]:
    if config.get("is_encoder_decoder"):
        yield "an encoder-decoder, which they refuse"
    if not any(name.endswith("ForCausalLM") for name in config.get("architectures", [])):
        yield "it is no causal language model"


def one_row(config: Mapping[str, Any], source: Source) -> Iterator[str]:
    """Tokens may meet in the attention function alone, and without a mask of the model's own."""
    for kind in source.used(config, "mixes"):
        if not source.attends(kind):
            yield f"{kind} mixes tokens outside the attention function, where those of other requests are"
        elif source.masks(kind):
            yield f"{reason_of_mask(config)}, which servers drop"


def reason_of_mask(config: Mapping[str, Any]) -> str:
    """What a bias or mask of the model's own comes from."""
    parts = config.get("parts", {})
    names = [parts.get("position", {}).get("kind", ""), *(
        part.get("position", {}).get("kind", "") for block in parts.get("blocks", []) for _, part in block["sublayers"]
    )]  # fmt: skip
    biases = [name for name in names if name in ("ALiBi", "T5Relative")]
    if biases:
        return f"{biases[0]} is an additive mask"
    masks = [part["mask"]["kind"] for block in parts.get("blocks", []) for _, part in block["sublayers"]
             if part.get("kind") == "BiasedAttention"]  # fmt: skip
    return f"{masks[0] if masks else 'the bias'} is a mask of its own"


def alike(config: Mapping[str, Any], source: Source) -> Iterator[str]:
    """Heads, their width and the soft cap are read of the configuration once, for all layers."""
    fields = {"heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim",
              "softcap": "attn_logit_softcapping"}  # fmt: skip
    for block in config.get("parts", {}).get("blocks", []):
        for name, part in block["sublayers"]:
            for field, known in fields.items():
                if name == "mixer" and field in part and part[field] != config.get(known):
                    yield f"layers differ in {field}, which they read of the configuration once"


def heads(config: Mapping[str, Any], source: Source) -> Iterator[str]:
    """They make lm_head and its logits themselves; of changes they know a scale and a soft cap."""
    head = config.get("parts", {}).get("head", {"kind": "Untied", "softcap": None})
    if head["kind"] not in ("Tied", "Untied", "ScaledTied"):
        yield f"they make logits without {head['kind']}"
    if head["kind"] == "ScaledTied" and head["softcap"] is not None:
        yield "they put the scale of logits behind their soft cap"


def form(config: Mapping[str, Any], source: Source) -> Iterator[str]:
    """The form of the classes that they look for."""
    yield from source.attention()
    yield from source.base_model(config["auto_map"]["AutoModel"].partition(".")[2])


Rule = Callable[[Mapping[str, Any], Source], Iterator[str]]
RULES: tuple[Rule, ...] = (generates, one_row, alike, heads, form)

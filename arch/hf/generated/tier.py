"""The third tier: a folder with code of its own, made of the twins of the parts of a model."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any

import numpy as np

from arch.hf import canonical
from arch.hf.family import Facts, Planned, UnfitError
from arch.hf.generated.compose import compose, text_of
from arch.hf.generated.layers import laid_open, layers_of
from arch.hf.generated.names import renamed, turned
from arch.hf.generated.teller import Teller
from arch.hf.tiers import Plan
from arch.hf.weights import Weight
from arch.layers.embeddings import Embedding
from arch.layers.masks import SlidingWindow
from arch.layers.positions import ALiBi, T5Relative
from arch.models.base import Model
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.tagger import Tagger
from arch.models.trunk import Trunk

CONFIGURATION, MODELING = "configuration_strata", "modeling_strata"


@dataclasses.dataclass(frozen=True)
class Task:
    """The class with a head: its source, its name, and the Auto class that opens it."""

    source: str
    name: str
    auto: str
    logits: bool = True


TASKS: dict[type, Task] = {
    Decoder: Task("causal_lm", "StrataForCausalLM", "AutoModelForCausalLM"),
    Encoder: Task("masked_lm", "StrataForMaskedLM", "AutoModelForMaskedLM"),
    Classifier: Task("sequence_classification", "StrataForSequenceClassification",
                     "AutoModelForSequenceClassification", False),
    Tagger: Task("token_classification", "StrataForTokenClassification", "AutoModelForTokenClassification", False),
}  # fmt: skip
TIED = ("Tied", "ScaledTied", "PredictionHead")


class Generated:
    """Code of its own, self-contained, with a twin of each part that the model uses."""

    name = "generated code"

    def plan(self, model: Model, params: Any, facts: Facts) -> Plan:
        task = TASKS.get(type(model))
        if task is None:
            raise UnfitError(f"{type(model).__name__} has no twin in PyTorch; {', '.join(one.__name__ for one in TASKS)}"
                             " have")  # fmt: skip
        assert isinstance(model, Trunk)
        teller, config = told_trunk(model, causal=task.auto == "AutoModelForCausalLM")
        config["parts"]["head"] = teller.tell(_head(model), "head")
        head: Any = model.head  # type: ignore[attr-defined]
        inner = head
        while type(inner).__name__ == "ClippedHead":
            inner = inner.head
        tied = type(inner).__name__ in TIED
        if task.logits:
            config["tie_word_embeddings"] = tied
            config |= {"final_logit_softcapping": head.softcap}
            if type(head).__name__ == "ScaledTied":
                config["logit_scale"] = config["parts"]["head"]["scale"]
        else:
            config["num_labels"] = model.classes  # type: ignore[attr-defined]
            config["tie_word_embeddings"] = False
        if isinstance(model, Classifier):
            config["parts"]["pooling"] = teller.tell(model.pooling, "pooling")
        config |= {
            "max_position_embeddings": getattr(model.position, "length", facts.context),
            "bos_token_id": facts.bos,
            "eos_token_id": facts.eos,
            "pad_token_id": facts.pad,
        }
        weights = laid_open(model, params)
        tensors = planned(weights, teller, task.logits)
        auto = {
            "AutoConfig": f"{CONFIGURATION}.StrataConfig",
            "AutoModel": f"{MODELING}.StrataModel",
            task.auto: f"{MODELING}.{task.name}",
        }
        told = {"model_type": "strata", "architectures": [task.name], "auto_map": auto, **config}
        return Plan(self.name, f"code of its own: {', '.join(sorted(_shown(teller)))}", told, tensors,
                    files(teller, [task], tied and task.logits, config["parts"]["blocks"]))  # fmt: skip


def _shown(teller: Teller) -> list[str]:
    return [kind for kind in teller.kinds if kind != "NoPosition"]


def _head(model: Any) -> Any:
    return canonical._head(model.head, model.width)


def told_trunk(model: Trunk, causal: bool, memory: int | None = None) -> tuple[Teller, dict[str, Any]]:
    """The teller of a trunk, and its configuration without a head."""
    laid = layers_of(model)
    each = [canonical.block(block, model.width, memory) for _, _, block in laid]
    mixers: list[Any] = [block.mixer for block in each]
    windows = [mixer.mask.window for mixer in mixers if type(getattr(mixer, "mask", None)) is SlidingWindow]
    first = next((mixer for mixer in mixers if hasattr(mixer, "heads")), None)
    teller = Teller(
        width=model.width,
        depth=laid[0][1] if laid else 0,
        heads=getattr(first, "heads", None),
        biased=isinstance(model.position, (ALiBi, T5Relative)),
        window=windows[0] if windows and causal else None,
        causal=causal,
        memory=memory,
    )
    kinds: list[Any] = []
    layers = []
    for index, block in enumerate(each):
        part = teller.tell(block, f"layers.{index}")
        if part not in kinds:
            kinds.append(part)
        layers.append(kinds.index(part))
    scaled = type(model.embedding) is not Embedding or model.embedding.scale is not None
    parts: dict[str, Any] = {
        "blocks": kinds,
        "layers": layers,
        "embedding": teller.tell(model.embedding, "embedding") if scaled else None,
        "position": teller.tell(model.position, "position"),
        "stack": teller.tell(model.stack, "stack"),
        "norm": None if model.norm is None else teller.tell(model.norm, "norm"),
        "masks": teller.masks,
    }
    sliding = [_slides(kinds[kind]) for kind in layers]
    caches = causal and all(twin.caches for twin in teller.kinds.values())
    attention = [part for kind in kinds for _, part in kind["sublayers"][:1] if "kv_heads" in part]
    plain = attention[0] if attention else {}
    head_dim = plain.get("head_dim") or (model.width // teller.heads if teller.heads else model.width)
    return teller, {
        "vocab_size": model.vocab,
        "hidden_size": model.width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": teller.heads or 1,
        "num_key_value_heads": plain.get("kv_heads") or teller.heads or 1,
        "head_dim": head_dim,
        "intermediate_size": next((part["hidden"] for kind in kinds for _, part in kind["sublayers"]
                                   if "hidden" in part), model.width),
        "layer_types": ["sliding_attention" if one else "full_attention" for one in sliding],
        "sliding_window": teller.window if any(sliding) else None,
        "attn_logit_softcapping": plain.get("softcap"),
        "depths": [depth for depth, _, _ in laid],
        "caches": caches,
        "use_cache": caches,
        "parts": parts,
    }  # fmt: skip


def _slides(block: dict[str, Any]) -> bool:
    return any(
        part["kind"] == "Attention" and part["mask"]["kind"] == "SlidingWindow" for _, part in block["sublayers"]
    )


def planned(weights: dict[str, Weight], teller: Teller, logits: bool) -> list[Planned]:
    """The tensors of the folder."""
    found = []
    for path, weight in weights.items():
        above, _, last = path.rpartition(".")
        own = next((arrays for at, arrays in teller.arrays.items() if re.fullmatch(at, above)), {})
        if last in own:
            name = f"{renamed(f'{above}.x', logits)[:-1]}{own[last]}"
        else:
            name = renamed(path, logits)
        shape = turned(path, np.broadcast_to(np.float32(0), weight.shape)).shape
        found.append(Planned(name, shape, functools.partial(_value, path, weight)))
    for path, value in teller.constants.items():
        found.append(Planned(renamed(path, logits), value.shape, functools.partial(_itself, value)))
    assert len({one.name for one in found}) == len(found), [one.name for one in found]
    return found


def _value(path: str, weight: Weight) -> np.ndarray:
    return turned(path, weight.value())


def _itself(value: np.ndarray) -> np.ndarray:
    return value


def files(teller: Teller, tasks: list[Task], tied: bool, blocks_of: list[dict[str, Any]]) -> dict[str, str]:
    """The code."""
    kinds = {kind: twin.name for kind, twin in teller.kinds.items()}
    softmax = [kind for kind in ("Attention", "BiasedAttention") if kind in kinds]
    from arch.hf.generated.table import BLOCKS

    blocks = sorted({twin.name for kind, twin in teller.kinds.items() if kind in BLOCKS or "Block" in twin.source})
    capped = any(part.get("softcap") for block in blocks_of for _, part in block["sublayers"])
    constants = {
        "BLOCKS": repr(blocks),
        "SDPA": str(not capped),
        "FLASH": str(softmax == ["Attention"]),
        "RECORDED": '{"attentions": StrataAttention}' if softmax else "{}",
        "TIED": '{"lm_head.weight": "model.embed_tokens.weight"}' if tied else "None",
    }
    sources = [twin.source for twin in teller.kinds.values()] + [task.source for task in tasks]
    title = f"A model written by Strata, made of {', '.join(sorted(kinds))}. PyTorch and Transformers alone."
    modeling = compose(sources, _wrapped(title), kinds, constants)
    return {f"{CONFIGURATION}.py": text_of("configuration"), f"{MODELING}.py": modeling}


def _wrapped(title: str) -> str:
    words, lines = title.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 110:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "")


def count(tensors: list[Planned]) -> int:
    """Numbers in all."""
    return sum(math.prod(one.shape) for one in tensors)

"""The third tier: a folder with code of its own, made of the twins of the parts of a model."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import numpy as np

from arch.hf import canonical
from arch.hf.family import Facts, Planned, UnfitError
from arch.hf.generated import recurrent
from arch.hf.generated.files import CONFIGURATION, MODELING, PAIR, TRANSLATOR, Task, files
from arch.hf.generated.layers import laid_open, layers_of
from arch.hf.generated.names import renamed, turned
from arch.hf.generated.teller import Teller, without
from arch.hf.plan import Plan
from arch.hf.weights import Weight
from arch.layers.attention.masks import SlidingWindow
from arch.layers.embeddings import Embedding, Tied
from arch.layers.heads.clipped import ClippedHead
from arch.layers.heads.prediction import PredictionHead
from arch.layers.heads.scaled import ScaledTied
from arch.layers.positions import ALiBi, T5Relative
from arch.models.base import Model
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.models.embedder import Embedder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder
from arch.models.gnmt import GNMT
from arch.models.tagger import Tagger
from arch.models.trunk import Trunk
from arch.stacks.sequential import Sequential


@dataclasses.dataclass(frozen=True)
class Placed(Planned):
    """A tensor, and which of our arrays it is.

    Attributes:
      path: by layer.
      array: ours, as it lies in the tree of parameters; None: a constant, which is in no tree.
    """

    path: str
    array: np.ndarray | None


TASKS: dict[type, Task] = {
    Decoder: Task("causal_lm", "StrataForCausalLM", "AutoModelForCausalLM"),
    Encoder: Task("masked_lm", "StrataForMaskedLM", "AutoModelForMaskedLM"),
    Classifier: Task("sequence_classification", "StrataForSequenceClassification",
                     "AutoModelForSequenceClassification", False),
    Embedder: Task("embedding_model", "StrataForEmbedding", "AutoModel", False),
    Tagger: Task("token_classification", "StrataForTokenClassification", "AutoModelForTokenClassification", False),
}  # fmt: skip
TIED = (Tied, ScaledTied, PredictionHead)


class Generated:
    """Code of its own, self-contained, with a twin of each part that the model uses."""

    name = "generated code"

    def plan(self, model: Model, params: Any, facts: Facts) -> Plan:
        if type(model) is EncoderDecoder:
            return pair(model, params, facts)
        if type(model) is GNMT:
            return translator(model, params, facts)
        task = TASKS.get(type(model))
        if task is None:
            raise UnfitError(without(model))
        assert isinstance(model, Trunk)
        teller, config = told_trunk(model, causal=task.auto == "AutoModelForCausalLM")
        tied = False
        if task.logits:
            config["parts"]["head"], tied = told_head(model, model.width, teller, config)
        elif not isinstance(model, Embedder):
            config["parts"]["head"] = teller.tell(model.head, "head")  # type: ignore[attr-defined]
            config["num_labels"] = model.classes  # type: ignore[attr-defined]
        if isinstance(model, (Classifier, Embedder)):
            config["parts"]["pooling"] = teller.tell(model.pooling, "pooling")
        config |= {"max_position_embeddings": getattr(model.position, "length", facts.context), **special(facts)}
        tensors = planned(laid_open(model, params), teller, task.logits)
        return finished(task, config, tensors, [teller], tied)


def pair(model: EncoderDecoder, params: Any, facts: Facts) -> Plan:
    """The plan of an encoder-decoder."""
    for half in (model.encoder, model.decoder):
        if type(half.stack) is not Sequential:
            raise UnfitError(f"stack={type(half.stack).__name__} of a half has no twin in PyTorch; Sequential has")
    read, encoder = told_trunk(model.encoder, causal=False)
    write, config = told_trunk(model.decoder, causal=True, memory=model.encoder.width)
    for kind, twin in read.kinds.items():
        if write.kinds.setdefault(kind, twin) != twin:
            raise UnfitError(f"{kind}: two parts of this name; give yours another")
    config["parts"]["head"], tied = told_head(model, model.decoder.width, write, config)
    shared = model.encoder.embedding is None
    config |= {
        "encoder": encoder,
        "is_encoder_decoder": True,
        "decoder_start_token_id": facts.bos,
        "max_position_embeddings": getattr(model.decoder.position, "length", facts.context),
        **special(facts),
    }
    write.arrays = {f"decoder.{at}": own for at, own in write.arrays.items()}
    write.arrays |= {f"encoder.{at}": own for at, own in read.arrays.items()}
    write.constants = {f"decoder.{at}": value for at, value in write.constants.items()}
    write.constants |= {f"encoder.{at}": value for at, value in read.constants.items()}
    tensors = planned(laid_open(model, params), write, True)
    return finished(PAIR, config, tensors, [write, read], tied, shared)


def translator(model: GNMT, params: Any, facts: Facts) -> Plan:
    """The plan of a recurrent encoder-decoder."""
    width, shared = model.decoder.width, model.encoder.embedding is None
    teller = Teller(width, model.decoder.depth, None, False, None, True, memory=model.encoder.memory)
    teller.tell(model)
    reading = model.decoder.embedding if shared else model.encoder.embedding
    encoder = teller.tell(dataclasses.replace(model.encoder, embedding=reading), "encoder")
    config = recurrent.told_half(model.decoder, teller.tell(model.decoder, "decoder"))
    config["parts"]["head"], tied = told_head(model, width, teller, config)
    config |= {
        "encoder": recurrent.told_half(model.encoder, encoder),
        "is_encoder_decoder": True,
        "decoder_start_token_id": facts.bos,
        "max_position_embeddings": facts.context,
        **special(facts),
    }
    tensors = planned(recurrent.laid_open(model, params), teller, True)
    return finished(TRANSLATOR, config, tensors, [teller], tied, shared)


def special(facts: Facts) -> dict[str, int | None]:
    """The ids of special tokens."""
    return {"bos_token_id": facts.bos, "eos_token_id": facts.eos, "pad_token_id": facts.pad}


def told_head(model: Any, width: int, teller: Teller, config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The head over the vocabulary, and whether its matrix is the table; what servers look for goes to `config`."""
    head = canonical.head(model.head, width)
    part, inner = teller.tell(head, "head"), head
    while isinstance(inner, ClippedHead):
        inner = inner.head
    tied = isinstance(inner, TIED)
    config |= {"tie_word_embeddings": tied, "final_logit_softcapping": head.softcap}
    if isinstance(head, ScaledTied):
        config["logit_scale"] = head.scale
    return part, tied


def finished(
    task: Task, config: dict[str, Any], tensors: list[Placed], tellers: list[Teller], tied: bool,
    shared: bool = False,
) -> Plan:  # fmt: skip
    """The plan of a model whose configuration is complete."""
    auto = {
        "AutoConfig": f"{CONFIGURATION}.StrataConfig",
        "AutoModel": f"{MODELING}.{task.base[1]}",
        task.auto: f"{MODELING}.{task.name}",
    }
    # Transformers shares no table of two halves either unless this is said.
    config = {**config, "tie_word_embeddings": config.get("tie_word_embeddings", False) or shared}
    told = {"model_type": "strata", "architectures": [task.name], "auto_map": auto, **config}
    shown = ", ".join(sorted(kind for kind in tellers[0].kinds if kind != "NoPosition"))
    softcaps = [cap for teller in tellers for cap in teller.softcaps]
    return Plan(
        Generated.name,
        f"code of its own: {shown}",
        told,
        tensors,
        files(tellers[0], task, tied, shared, bool(softcaps)),
    )


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
        window=windows[0] if windows and causal and memory is None else None,
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
    table: Any = Embedding() if model.embedding is None else model.embedding
    scaled = type(table) is not Embedding or table.scale is not None
    parts: dict[str, Any] = {
        "blocks": kinds,
        "layers": layers,
        "embedding": teller.tell(table, "embedding") if scaled else None,
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


def planned(weights: dict[str, Weight], teller: Teller, logits: bool) -> list[Placed]:
    """The tensors of the folder."""
    found = []
    for path, weight in weights.items():
        above, _, last = path.rpartition(".")
        own = next((arrays for at, arrays in teller.arrays.items() if re.fullmatch(at, above)), {})
        name = f"{renamed(f'{above}.x', logits)[:-1]}{own[last]}" if last in own else renamed(path, logits)
        shape = turned(path, np.broadcast_to(np.float32(0), weight.shape)).shape
        found.append(Placed(name, shape, functools.partial(_value, path, weight), path, weight.array))
    for path, value in teller.constants.items():
        found.append(Placed(renamed(path, logits), value.shape, functools.partial(_itself, value), path, None))
    assert len({one.name for one in found}) == len(found), [one.name for one in found]
    return found


def _value(path: str, weight: Weight) -> np.ndarray:
    return turned(path, weight.value())


def _itself(value: np.ndarray) -> np.ndarray:
    return value

"""Llama as GGUF files hold it: other names of keys and tensors, and queries and keys in another order.

Their rotary positions turn dimensions 2i and 2i + 1 of a head together, ours and Transformers' i and i + K / 2, so the
rows of the query and key matrices are stored interleaved, and are put back here.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from arch.hf.families.llama import Llama
from arch.hf.gguf import GGUF
from arch.hf.layouts import Layout, Tensor
from arch.hf.reading import Read, arrays
from arch.hf.settings import Settings, rope
from arch.hf.weights import blocks, closed
from arch.spec import UserError

NAMES = (
    (r"model\.embed_tokens", "token_embd"),
    (r"lm_head", "output"),
    (r"model\.norm", "output_norm"),
    (r"model\.layers\.", "blk."),
    (r"self_attn\.([qkv])_proj", r"attn_\1"),
    (r"self_attn\.o_proj", "attn_output"),
    (r"mlp\.(gate|up|down)_proj", r"ffn_\1"),
    (r"input_layernorm", "attn_norm"),
    (r"post_attention_layernorm", "ffn_norm"),
)
"""Beginnings and parts of Transformers' names -> those of GGUF."""

KNOWN = {
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count"),
}
IDLE = {"rope.scaling.type": ("none",), "expert_count": (0,), "expert_used_count": (0,)}
"""Keys that change the network unless they have one of these values."""


@dataclasses.dataclass(frozen=True)
class Interleaved(Layout):
    """`each` with the first axis, [N K], in the order 0, K/2, 1, K/2 + 1, ... within each of N `heads`."""

    each: Layout
    heads: int

    def join(self, arrays):
        return self._turned(self.each.join(arrays), (2, -1))

    def split(self, tensor, shapes):
        return self.each.split(self._turned(tensor, (-1, 2)), shapes)

    def shape(self, shapes):
        return self.each.shape(shapes)

    def _turned(self, tensor: np.ndarray, parts: tuple[int, int]) -> np.ndarray:
        apart = tensor.reshape(self.heads, *parts, *tensor.shape[1:])
        return apart.swapaxes(1, 2).reshape(tensor.shape)


class GGUFLlama(Llama):
    """The same network and the same configuration; tensors by GGUF's names."""

    ignored = ()

    def tensors(self, model: Any) -> list[Tensor]:
        (_, _, block), *_ = blocks(model)
        mixer: Any = block.mixer
        heads = {"attn_q": mixer.heads, "attn_k": mixer.kv_heads or mixer.heads}
        found = []
        for tensor in super().tensors(model):
            name = gguf_name(tensor.name)
            part = name.split(".")[-2]
            layout = Interleaved(tensor.layout, heads[part]) if part in heads else tensor.layout
            found.append(dataclasses.replace(tensor, name=name, layout=layout, copies=()))
        return found


def gguf_name(name: str) -> str:
    """GGUF's name of a tensor of Transformers' Llama."""
    for pattern, ours in NAMES:
        name = re.sub(rf"(?<!\w){pattern}", ours, name)
    return name


def read(file: GGUF) -> Read:
    """The model in `file`.

    Raises:
      UserError: in one line: another architecture, a key that is missing, wrong or unknown, a tensor that is missing,
        left over or of another shape.
    """
    held = config(file)
    family = GGUFLlama()
    model = family.read(held, str(file.path))
    found, dropped = arrays(
        family, model, {name: one.array() for name, one in file.tensors.items()}, file.path, "its metadata"
    )
    return Read(model, closed(model, found), held, family, dropped)


def config(file: GGUF) -> dict[str, Any]:
    """The metadata as the `config.json` of a Llama. Raises UserError."""
    said = file.metadata.get("general.architecture")
    if said != "llama":
        raise UserError(f"{file.path}: general.architecture={said!r} has no counterpart here; 'llama' has")
    settings = Settings(file.metadata, {"llama.rope.freq_base": 10_000.0}, str(file.path))
    for key in (key.removeprefix("llama.") for key in file.metadata if key.startswith("llama.")):
        if key in IDLE:
            settings.only(f"llama.{key}", *IDLE[key])
        elif key not in KNOWN:
            raise UserError(f"{file.path}: llama.{key} is not known here; the network may depend on it")
    heads, width = settings.integer("llama.attention.head_count"), settings.integer("llama.embedding_length")
    head_dim = settings.maybe("llama.attention.key_length") or width // heads
    for key in ("attention.value_length", "rope.dimension_count"):
        settings.only(f"llama.{key}", None, head_dim)
    table = file.tensors.get("token_embd.weight")
    vocab = settings.maybe("llama.vocab_size") or (table and table.shape[0])
    return {
        "model_type": "llama",
        "vocab_size": vocab or settings.integer("llama.vocab_size"),
        "hidden_size": width,
        "intermediate_size": settings.integer("llama.feed_forward_length"),
        "num_hidden_layers": settings.integer("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": settings.maybe("llama.attention.head_count_kv") or heads,
        "head_dim": head_dim,
        "rms_norm_eps": settings.number("llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope(settings.number("llama.rope.freq_base")),
        "max_position_embeddings": settings.integer("llama.context_length"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
    }

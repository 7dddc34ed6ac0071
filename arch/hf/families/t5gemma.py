"""T5Gemma (arXiv 2504.06225): two stacks of Gemma 2's blocks, a norm before and behind each sublayer, soft-capped
scores and logits, tables for each half multiplied by sqrt(D). A gain is 1 plus the tensor.

A local layer of the encoder sees `sliding_window` tokens on either side; one of the decoder itself and those before it,
`sliding_window` in all. Before Transformers
5.4 one of the encoder saw `sliding_window - 1`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from arch.blocks.sandwich import SandwichNorm
from arch.hf.family import Facts, Family, UnfitError, attention, first_block, has_bias, linear, norm, table, want
from arch.hf.layouts import Less, Tensor
from arch.hf.plain import ATTENTION, EMBEDDING
from arch.hf.settings import THEIRS, Settings, kinds, rope
from arch.hf.weights import blocks
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, Mask, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied
from arch.layers.feed_forward import GatedMLP
from arch.layers.linear import Dense
from arch.layers.norms.common import RMSNorm
from arch.layers.positions import Rotary
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.stacks.patterns import Listed

SLIDING, FULL = "sliding_attention", "full_attention"
THEIR_NAMES = {"mixer": "self_attn", "cross": "cross_attn", "feed_forward": "feedforward"}
HALF = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
    "attention_bias": False,
}


class T5Gemma(Family):
    model_type, architecture = "t5gemma", "T5GemmaForConditionalGeneration"
    native = frozenset((ATTENTION, EMBEDDING))
    since = "5.4"
    defaults: ClassVar = {"tie_word_embeddings": True}

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, EncoderDecoder, "model")
        # Both halves hide the padding token where no mask is given, so there must be one, and no row may hold it.
        pad = facts.mask if facts.pad is None else facts.pad
        ids = {"bos_token_id": facts.bos, "eos_token_id": facts.eos, "pad_token_id": -1 if pad is None else pad}
        cap = model.head.softcap
        return {
            "vocab_size": model.decoder.vocab,
            "tie_word_embeddings": type(model.head) is Tied,
            "is_encoder_decoder": True,
            "decoder_start_token_id": facts.bos,
            **ids,
            "encoder": {**self._half(model.encoder, "encoder", facts), **ids, "final_logit_softcapping": cap},
            "decoder": {**self._half(model.decoder, "decoder", facts), **ids, "final_logit_softcapping": cap},
        }

    def _half(self, trunk: Any, side: str, facts: Facts) -> dict[str, Any]:
        block = first_block(trunk)
        mixer = want(block.mixer, Attention, f"{side}.layer 0 mixer")
        feed_forward = want(block.feed_forward, GatedMLP, f"{side}.layer 0 feed_forward")
        masks: list[Any] = [one.mixer.mask for one in trunk.block.each]
        windows = [_window(mask, side) for mask in masks]
        scale: Any = mixer.scale
        scalar = round(scale**-2)
        if trunk.width % mixer.heads or scalar**-0.5 != scale:
            raise UnfitError(f"{side}.layer 0 mixer: heads={mixer.heads} must divide the width, scale={scale} be one "
                             "over the root of a whole number, in t5gemma")  # fmt: skip
        return {
            "model_type": "t5_gemma_module",
            "vocab_size": trunk.vocab,
            "hidden_size": trunk.width,
            "intermediate_size": feed_forward.hidden,
            "num_hidden_layers": trunk.depth,
            "num_attention_heads": mixer.heads,
            "num_key_value_heads": mixer.kv_heads,
            "head_dim": mixer.head_dim,
            "hidden_activation": THEIRS[feed_forward.activation],
            "max_position_embeddings": facts.context,
            "rms_norm_eps": want(block.norm, RMSNorm, f"{side}.layer 0 norm").eps,
            "rope_parameters": rope(want(mixer.position, Rotary, f"{side}.layer 0 mixer.position").base),
            "query_pre_attn_scalar": scalar,
            "attention_bias": has_bias(mixer.linear),
            "layer_types": [FULL if window is None else SLIDING for window in windows],
            "sliding_window": next((window for window in windows if window is not None), 4096),
            "attn_logit_softcapping": mixer.softcap,
        }

    def spec(self, settings: Settings) -> EncoderDecoder:
        settings.only("tie_word_embeddings", True)
        halves = {side: settings.part(side, HALF) for side in ("encoder", "decoder")}
        parts = {side: _trunk(half, side) for side, half in halves.items()}
        cap = halves["decoder"].get("final_logit_softcapping")
        return EncoderDecoder(**parts, head=Tied(softcap=cap))

    def tensors(self, model: Any) -> list[Tensor]:
        copies = ("lm_head.out_proj.weight",)
        found = [
            table("model.encoder.embed_tokens.weight", "encoder.embedding.table"),
            table("model.decoder.embed_tokens.weight", "decoder.embedding.table", copies),
        ]
        for side, trunk in (("encoder", model.encoder), ("decoder", model.decoder)):
            for layer, (_, _, block) in enumerate(blocks(trunk)):
                name, path = f"model.{side}.layers.{layer}", f"{side}.layers.{layer}"
                for ours, part in block.sublayers.items():
                    theirs, held = THEIR_NAMES[ours], f"{path}.{ours}"
                    if isinstance(part, (Attention, CrossAttention)):
                        found += attention(f"{name}.{theirs}", held, part.linear.bias)  # type: ignore[attr-defined]
                    else:
                        for x in ("gate", "up", "down"):
                            found += linear(f"{name}.mlp.{x}_proj", f"{held}.{x}", False)
                    found += norm(f"{name}.pre_{theirs}_layernorm", f"{held}_norm", layout=Less())
                    found += norm(f"{name}.post_{theirs}_layernorm", f"{held}_out_norm", layout=Less())
            found += norm(f"model.{side}.norm", f"{side}.norm", layout=Less())
        return found


def _window(mask: Mask, side: str) -> int | None:
    """What the configuration calls the window of a local layer; None: it is another mask."""
    if side == "encoder":
        return mask.radius if type(mask) is LocalWindow else None
    return mask.window if type(mask) is SlidingWindow else None


def _trunk(settings: Settings, side: str) -> Trunk:
    depth, width, window = (settings.integer(name) for name in ("num_hidden_layers", "hidden_size", "sliding_window"))
    types = kinds(settings, depth, [FULL if layer % 2 else SLIDING for layer in range(depth)])
    scalar = settings.integer("query_pre_attn_scalar")
    shared: dict[str, Any] = {
        "heads": settings.integer("num_attention_heads"),
        "kv_heads": settings.integer("num_key_value_heads"),
        "head_dim": settings.integer("head_dim"),
        "softcap": settings.get("attn_logit_softcapping"),
        "scale": scalar**-0.5,
        "linear": Dense(bias=settings.flag("attention_bias")),
    }
    one = RMSNorm(settings.number("rms_norm_eps"))
    hidden, act = settings.integer("intermediate_size"), settings.act("hidden_activation")
    near: Mask = LocalWindow(window) if side == "encoder" else SlidingWindow(window)
    far: Mask = Bidirectional() if side == "encoder" else Causal()

    def block(kind: str) -> Any:
        mixer = Attention(mask=near if kind == SLIDING else far, position=Rotary(settings.rope()[0]), **shared)
        made = SandwichNorm(mixer=mixer, feed_forward=GatedMLP(hidden, act), norm=one)
        return made if side == "encoder" else reading(made, CrossAttention(**shared))

    return Trunk(
        vocab=settings.integer("vocab_size"),
        width=width,
        depth=depth,
        block=Listed(tuple(map(block, types))),
        embedding=Embedding(scale=width**0.5),
        norm=one,
    )

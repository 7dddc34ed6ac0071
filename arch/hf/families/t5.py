"""T5 (arXiv 1910.10683), v1.0 and v1.1: pre-norm with RMSNorm, no biases, a relative position bias that the layers of a
side share, scores that are not scaled, one table for both halves.

`tie_word_embeddings` says whether the head is the table, read at d_model^-1/2 (v1.0), or a matrix of its own (v1.1).
"""

from __future__ import annotations

from typing import Any, ClassVar

from arch.blocks.pre_norm import PreNorm
from arch.hf.family import Facts, Family, UnfitError, attention, first_block, linear, norm, table, want
from arch.hf.layouts import Flat, Linear, Tensor
from arch.hf.plain import ATTENTION, HEAD
from arch.hf.settings import Settings
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional, Causal
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Untied
from arch.layers.feed_forward import MLP, Activation, GatedMLP
from arch.layers.heads.scaled import ScaledTied
from arch.layers.norms.common import RMSNorm
from arch.layers.positions import NoPosition, T5Relative
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk

ACTS: dict[str, Activation] = {
    "relu": "relu",
    "gated-gelu": "gelu_tanh",
    "gated-silu": "silu",
    "gelu": "gelu",
    "silu": "silu",
}
"""`feed_forward_proj` -> our activation; "gated-gelu" is the tanh form there."""


class T5(Family):
    model_type, architecture = "t5", "T5ForConditionalGeneration"
    native = frozenset((ATTENTION, HEAD))
    ignored = (r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",)
    defaults: ClassVar = {
        "d_kv": 64,
        "feed_forward_proj": "relu",
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "tie_word_embeddings": True,
        "num_decoder_layers": None,
    }

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, EncoderDecoder, "model")
        block = first_block(model.encoder)
        mixer = want(block.mixer, Attention, "encoder.layer 0 mixer")
        position = want(model.encoder.position, T5Relative, "encoder.position")
        feed_forward: Any = block.feed_forward
        if type(feed_forward) not in (MLP, GatedMLP):
            raise UnfitError(f"encoder.layer 0 feed_forward={type(feed_forward).__name__} has no counterpart in t5")
        gated = type(feed_forward) is GatedMLP
        found = [name for name, act in ACTS.items() if (act, gated) == (feed_forward.activation, "gated" in name)]
        if not found:
            raise UnfitError(f"encoder.layer 0 feed_forward.activation={feed_forward.activation} has none in t5")
        return {
            "vocab_size": model.decoder.vocab,
            "d_model": model.decoder.width,
            "d_kv": mixer.head_dim,
            "d_ff": feed_forward.hidden,
            "num_layers": model.encoder.depth,
            "num_decoder_layers": model.decoder.depth,
            "num_heads": mixer.heads,
            "relative_attention_num_buckets": position.buckets,
            "relative_attention_max_distance": position.max_distance,
            "layer_norm_epsilon": want(block.norm, RMSNorm, "encoder.layer 0 norm").eps,
            "feed_forward_proj": found[0],
            "tie_word_embeddings": type(model.head) is ScaledTied,
            "scale_decoder_outputs": type(model.head) is ScaledTied,  # 5.0 finds it out of the field above, wrongly
            "decoder_start_token_id": facts.bos,
            "bos_token_id": facts.bos,
            "eos_token_id": facts.eos,
            "pad_token_id": facts.eos if facts.pad is None else facts.pad,  # labels are shifted by it
        }

    def spec(self, settings: Settings) -> EncoderDecoder:
        word = settings.get("feed_forward_proj")
        if word not in ACTS:
            raise settings.wrong("feed_forward_proj", f"one of {', '.join(ACTS)}")
        hidden, act = settings.integer("d_ff"), ACTS[word]
        feed_forward: Any = (GatedMLP if word.startswith("gated") else MLP)(hidden=hidden, activation=act)
        one = RMSNorm(settings.number("layer_norm_epsilon"))
        heads: dict[str, Any] = {"heads": settings.integer("num_heads"), "head_dim": settings.integer("d_kv")}
        heads["scale"] = 1.0
        own: dict[str, Any] = {"position": NoPosition(), **heads}
        parts: dict[str, Any] = {"feed_forward": feed_forward, "norm": one}
        shape: dict[str, Any] = {"vocab": settings.integer("vocab_size"), "width": settings.integer("d_model")}
        buckets: dict[str, Any] = {
            "buckets": settings.integer("relative_attention_num_buckets"),
            "max_distance": settings.integer("relative_attention_max_distance"),
        }
        depth = settings.integer("num_layers")
        encoder = Trunk(
            **shape,
            depth=depth,
            block=PreNorm(mixer=Attention(mask=Bidirectional(), **own), **parts),
            embedding=None,
            position=T5Relative(bidirectional=True, **buckets),
            norm=one,
        )
        decoder = Trunk(
            **shape,
            depth=settings.maybe("num_decoder_layers") or depth,
            block=reading(PreNorm(mixer=Attention(mask=Causal(), **own), **parts), CrossAttention(**heads)),
            embedding=Embedding(),
            position=T5Relative(**buckets),
            norm=one,
        )
        settings.only("scale_decoder_outputs", None, settings.flag("tie_word_embeddings"))
        head = ScaledTied() if settings.flag("tie_word_embeddings") else Untied()
        return EncoderDecoder(encoder=encoder, decoder=decoder, head=head)

    def tensors(self, model: Any) -> list[Tensor]:
        tied = type(model.head) is ScaledTied
        aliases = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        copies = (*aliases, *(("lm_head.weight",) if tied else ()))
        found = [table("shared.weight", "decoder.embedding.table", copies)]
        for side, trunk in (("encoder", model.encoder), ("decoder", model.decoder)):
            first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            found.append(Tensor(first, (f"{side}.position.table",), Flat(2)))
            gated = type(trunk.block.feed_forward) is GatedMLP
            inputs = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
            for layer in range(trunk.depth):
                name, path = f"{side}.block.{layer}.layer", f"{side}.layers.{layer}"
                reads = [("mixer", "SelfAttention"), *([("cross", "EncDecAttention")] if side == "decoder" else [])]
                for place, (ours, theirs) in enumerate(reads):
                    found += attention(f"{name}.{place}.{theirs}", f"{path}.{ours}", False, "{}")
                    found += norm(f"{name}.{place}.layer_norm", f"{path}.{ours}_norm")
                for ours, theirs in {**inputs, "down": "wo"}.items():
                    one = f"{name}.{len(reads)}.DenseReluDense.{theirs}"
                    found += linear(one, f"{path}.feed_forward.{ours}", False)
                found += norm(f"{name}.{len(reads)}.layer_norm", f"{path}.feed_forward_norm")
            found += norm(f"{side}.final_layer_norm", f"{side}.norm")
        return found if tied else [*found, Tensor("lm_head.weight", ("head.kernel",), Linear())]

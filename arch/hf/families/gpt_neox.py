"""GPT-NeoX (arXiv 2204.06745), as in Pythia: rotary positions on part of each head, q, k and v in one matrix by head.

Its sublayers stand one after another, or beside each other, x + Attention(LN_1(x)) + MLP(LN_2(x)). Where ours share one
norm, it is written twice.
"""

from __future__ import annotations

from typing import Any, ClassVar

from arch.blocks.parallel import Parallel
from arch.blocks.pre_norm import PreNorm
from arch.hf.family import Facts, Family, UnfitError, first_block, has_bias, linear, norm, table, want
from arch.hf.layouts import ByHead, Flat, Linear, Tensor
from arch.hf.settings import THEIRS, Settings, rope
from arch.hf.weights import blocks
from arch.layers.attention.masks import Causal
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import MLP
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Rotary
from arch.models.decoder import Decoder


class GPTNeoX(Family):
    model_type, architecture = "gpt_neox", "GPTNeoXForCausalLM"
    base = "gpt_neox."
    ignored = (r"rotary_emb\.inv_freq$", r"\.attention\.(bias|masked_bias)$")
    defaults: ClassVar = {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "use_parallel_residual": True,
        "attention_bias": True,
    }

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, Decoder, "model")
        block = first_block(model)
        mixer, feed_forward = want(block.mixer, Attention, "mixer"), want(block.feed_forward, MLP, "feed_forward")
        position = want(mixer.position, Rotary, "mixer.position")
        if model.width % mixer.heads:
            raise UnfitError(f"layer 0 mixer.heads={mixer.heads} must divide the width {model.width} in gpt_neox")
        return {
            "vocab_size": model.vocab,
            "hidden_size": model.width,
            "intermediate_size": feed_forward.hidden,
            "num_hidden_layers": model.depth,
            "num_attention_heads": mixer.heads,
            "hidden_act": THEIRS[feed_forward.activation],
            "layer_norm_eps": want(block.norm, LayerNorm, "norm").eps,
            "rope_parameters": rope(position.base, partial_rotary_factor=position.fraction),
            "rotary_pct": position.fraction,  # what 5.0 reads; it does not look at the field above
            "use_parallel_residual": type(block) is Parallel,
            "attention_bias": has_bias(mixer.linear),
            "max_position_embeddings": facts.context,
            "tie_word_embeddings": type(model.head) is Tied,
            "bos_token_id": facts.bos,
            "eos_token_id": facts.eos,
            "pad_token_id": facts.pad,
        }

    def spec(self, settings: Settings) -> Decoder:
        width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
        base, fraction = settings.rope(fraction=float(settings.get("rotary_pct") or 0.25))
        base = float(settings.get("rotary_emb_base") or base)
        one = LayerNorm(eps=settings.number("layer_norm_eps"))
        mixer = Attention(
            heads=heads,
            head_dim=width // heads,
            position=Rotary(base=base, fraction=fraction),
            mask=Causal(),
            linear=Dense(bias=settings.flag("attention_bias")),
        )
        hidden, act = settings.integer("intermediate_size"), settings.act("hidden_act")
        kind = Parallel if settings.flag("use_parallel_residual") else PreNorm
        return Decoder(
            vocab=settings.integer("vocab_size"),
            width=width,
            depth=settings.integer("num_hidden_layers"),
            block=kind(mixer=mixer, feed_forward=MLP(hidden, act, Dense(bias=True)), norm=one),
            embedding=Embedding(),
            norm=one,
            head=Tied() if settings.flag("tie_word_embeddings") else Untied(),
        )

    def tensors(self, model: Any) -> list[Tensor]:
        tied = type(model.head) is Tied
        copies = ("embed_out.weight", "lm_head.weight") if tied else ()
        found = [table("gpt_neox.embed_in.weight", "embedding.table", copies)]
        for layer, (_, _, block) in enumerate(blocks(model)):
            name, path = f"gpt_neox.layers.{layer}", f"layers.{layer}"
            mixer: Any = block.mixer
            for kind, suffix in (("kernel", "weight"), *((("bias", "bias"),) if has_bias(mixer.linear) else ())):
                held = tuple(f"{path}.mixer.{x}.{kind}" for x in "qkv")
                found.append(Tensor(f"{name}.attention.query_key_value.{suffix}", held, ByHead()))
            found += linear(f"{name}.attention.dense", f"{path}.mixer.o", has_bias(mixer.linear), 2)
            found += linear(f"{name}.mlp.dense_h_to_4h", f"{path}.feed_forward.up", True)
            found += linear(f"{name}.mlp.dense_4h_to_h", f"{path}.feed_forward.down", True)
            if type(block) is Parallel:
                for kind, suffix in (("gain", "weight"), ("bias", "bias")):
                    names = [f"{name}.{one}_layernorm.{suffix}" for one in ("input", "post_attention")]
                    found.append(Tensor(names[0], (f"{path}.norm.{kind}",), Flat(), (names[1],), written=True))
            else:
                found += norm(f"{name}.input_layernorm", f"{path}.mixer_norm", True)
                found += norm(f"{name}.post_attention_layernorm", f"{path}.feed_forward_norm", True)
        found += norm("gpt_neox.final_layer_norm", "norm", True)
        return found if tied else [*found, Tensor("embed_out.weight", ("head.kernel",), Linear(), ("lm_head.weight",))]

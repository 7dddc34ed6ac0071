"""GPT-2: learned positions, LayerNorm before each sublayer, biases throughout, q, k and v in one matrix.

h = x + W_o Attention(LN(x));   x' = h + W_2 gelu_tanh(W_1 LN(h))
"""

from __future__ import annotations

from typing import Any, ClassVar

from arch.blocks.pre_norm import PreNorm
from arch.hf.family import Facts, Family, UnfitError, first_block, linear, norm, table, want
from arch.hf.layouts import Conv1D, Flat, Joined, Linear, Tensor
from arch.hf.settings import THEIRS, Settings
from arch.layers.attention.masks import Causal
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import MLP
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Learned, NoPosition
from arch.models.decoder import Decoder


class GPT2(Family):
    model_type, architecture = "gpt2", "GPT2LMHeadModel"
    base = "transformer."
    ignored = (r"\.attn\.(bias|masked_bias)$",)
    defaults: ClassVar = {
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, Decoder, "model")
        block = first_block(model)
        mixer, feed_forward = want(block.mixer, Attention, "mixer"), want(block.feed_forward, MLP, "feed_forward")
        if model.width % mixer.heads:
            raise UnfitError(f"layer 0 mixer.heads={mixer.heads} must divide the width {model.width} in gpt2")
        act = feed_forward.activation
        return {
            "vocab_size": model.vocab,
            "n_positions": want(model.position, Learned, "position").length,
            "n_embd": model.width,
            "n_layer": model.depth,
            "n_head": mixer.heads,
            "n_inner": feed_forward.hidden,
            "activation_function": "gelu_new" if act == "gelu_tanh" else THEIRS[act],
            "layer_norm_epsilon": want(block.norm, LayerNorm, "norm").eps,
            "tie_word_embeddings": type(model.head) is Tied,
            "bos_token_id": facts.bos,
            "eos_token_id": facts.eos,
            "pad_token_id": facts.pad,
        }

    def spec(self, settings: Settings) -> Decoder:
        settings.only("scale_attn_weights", True)
        settings.only("scale_attn_by_inverse_layer_idx", False)
        settings.only("add_cross_attention", False)
        width, bias = settings.integer("n_embd"), Dense(bias=True)
        one = LayerNorm(eps=settings.number("layer_norm_epsilon"))
        heads = settings.integer("n_head")
        mixer = Attention(heads=heads, head_dim=width // heads, position=NoPosition(), mask=Causal(), linear=bias)
        hidden = settings.maybe("n_inner") or 4 * width
        feed_forward = MLP(hidden=hidden, activation=settings.act("activation_function"), linear=bias)
        return Decoder(
            vocab=settings.integer("vocab_size"),
            width=width,
            depth=settings.integer("n_layer"),
            block=PreNorm(mixer=mixer, feed_forward=feed_forward, norm=one),
            embedding=Embedding(),
            position=Learned(length=settings.integer("n_positions")),
            norm=one,
            head=Tied() if settings.flag("tie_word_embeddings") else Untied(),
        )

    def tensors(self, model: Any) -> list[Tensor]:
        tied = type(model.head) is Tied
        found = [
            table("transformer.wte.weight", "embedding.table", ("lm_head.weight",) if tied else ()),
            table("transformer.wpe.weight", "position.table"),
        ]
        for layer in range(model.depth):
            name, path = f"transformer.h.{layer}", f"layers.{layer}"
            for kind, whole in (("kernel", Joined(Conv1D(), axis=1)), ("bias", Joined(Flat()))):
                held = tuple(f"{path}.mixer.{x}.{kind}" for x in "qkv")
                found.append(Tensor(f"{name}.attn.c_attn.{'weight' if kind == 'kernel' else 'bias'}", held, whole))
            found += linear(f"{name}.attn.c_proj", f"{path}.mixer.o", True, 2, Conv1D)
            found += linear(f"{name}.mlp.c_fc", f"{path}.feed_forward.up", True, 1, Conv1D)
            found += linear(f"{name}.mlp.c_proj", f"{path}.feed_forward.down", True, 1, Conv1D)
            found += norm(f"{name}.ln_1", f"{path}.mixer_norm", True)
            found += norm(f"{name}.ln_2", f"{path}.feed_forward_norm", True)
        found += norm("transformer.ln_f", "norm", True)
        return found if tied else [*found, Tensor("lm_head.weight", ("head.kernel",), Linear())]

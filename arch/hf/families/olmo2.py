"""OLMo 2 (arXiv 2501.00656): Llama with the norm behind each sublayer and queries and keys normed over all heads.

h = x + RMSNorm(W_o Attention(x));   x' = h + RMSNorm(W_d (silu(W_g h) * W_u h))
"""

from __future__ import annotations

from typing import ClassVar

from arch.blocks.reordered_norm import ReorderedNorm
from arch.hf.families.llama import LlamaLike
from arch.hf.family import UnfitError, has_bias
from arch.layers.attention.masks import Causal
from arch.layers.norms.across_heads import AcrossHeads
from arch.layers.norms.common import RMSNorm


class Olmo2(LlamaLike):
    """Its configuration has no `head_dim`: servers divide the width by the heads."""

    model_type, architecture = "olmo2", "Olmo2ForCausalLM"
    kind = ReorderedNorm
    norms: ClassVar = {"mixer": "post_attention_layernorm", "feed_forward": "post_feedforward_layernorm"}
    defaults: ClassVar = {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }

    def config(self, model, facts):
        told = super().config(model, facts)
        if told.pop("head_dim") * told["num_attention_heads"] != told["hidden_size"]:
            raise UnfitError("layer 0 mixer: heads times head_dim must be the width in olmo2")
        return told

    def further(self, model, mixer, feed_forward):
        return {"attention_bias": has_bias(mixer.linear)}

    def qk_norm(self, eps):
        return AcrossHeads(RMSNorm(eps))

    def masks(self, settings, depth):
        settings.only("mlp_bias", False)
        settings.only("head_dim", None, settings.integer("hidden_size") // settings.integer("num_attention_heads"))
        return [Causal()] * depth

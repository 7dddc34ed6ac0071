"""Llama (arXiv 2302.13971, 2407.21783), and the two that differ in their attention: Mistral (arXiv 2310.06825) with a
sliding window in every layer, Qwen 3 (arXiv 2505.09388) with normed queries and keys and windows by layer.

    h = x + W_o Attention(RMSNorm(x));   x' = h + W_d (silu(W_g n) * W_u n),  n = RMSNorm(h)
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm
from arch.hf.family import Facts, Family, UnfitError, attention, first_block, has_bias, linear, norm, table, want
from arch.hf.layouts import Linear, Tensor
from arch.hf.settings import THEIRS, Settings, kinds, rope
from arch.hf.weights import blocks
from arch.layers.attention.masks import Causal, Mask, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import GatedMLP
from arch.layers.linear import Dense
from arch.layers.norms.across_heads import AcrossHeads
from arch.layers.norms.common import Norm, RMSNorm
from arch.layers.positions import Rotary
from arch.models.decoder import Decoder
from arch.stacks.patterns import Listed

SLIDING, FULL = "sliding_attention", "full_attention"


class LlamaLike(Family):
    """What the three and OLMo 2 share.

    Attributes:
      kind: of the blocks.
      norms: what the norm of each sublayer is called.
    """

    kind: ClassVar[type[Block]] = PreNorm
    norms: ClassVar = {"mixer": "input_layernorm", "feed_forward": "post_attention_layernorm"}

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, Decoder, "model")
        block = first_block(model)
        mixer, feed_forward = want(block.mixer, Attention, "mixer"), want(block.feed_forward, GatedMLP, "feed_forward")
        position = want(mixer.position, Rotary, "mixer.position")
        return {
            "vocab_size": model.vocab,
            "hidden_size": model.width,
            "intermediate_size": feed_forward.hidden,
            "num_hidden_layers": model.depth,
            "num_attention_heads": mixer.heads,
            "num_key_value_heads": mixer.kv_heads,
            "head_dim": mixer.head_dim,
            "hidden_act": THEIRS[feed_forward.activation],
            "rms_norm_eps": want(block.norm, RMSNorm, "norm").eps,
            "rope_parameters": rope(position.base),
            "max_position_embeddings": facts.context,
            "tie_word_embeddings": type(model.head) is Tied,
            "bos_token_id": facts.bos,
            "eos_token_id": facts.eos,
            "pad_token_id": facts.pad,
            **self.further(model, mixer, feed_forward),
        }

    @abc.abstractmethod
    def further(self, model: Any, mixer: Attention, feed_forward: GatedMLP) -> dict[str, Any]:
        """The fields that this one has and the others do not."""

    def qk_norm(self, eps: float) -> Norm | None:
        """Of queries and keys."""
        return None

    @abc.abstractmethod
    def masks(self, settings: Settings, depth: int) -> list[Mask]:
        """Of each layer."""

    def spec(self, settings: Settings) -> Decoder:
        depth, width, heads = (
            settings.integer(f"{name}") for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        )
        eps = settings.number("rms_norm_eps")
        fields: dict[str, Any] = {
            "heads": heads,
            "head_dim": settings.maybe("head_dim") or width // heads,
            "kv_heads": settings.maybe("num_key_value_heads") or heads,
            "position": Rotary(base=settings.rope()[0]),
            "linear": Dense(bias=settings.flag("attention_bias")),
            "qk_norm": self.qk_norm(eps),
        }
        feed_forward = GatedMLP(
            hidden=settings.integer("intermediate_size"),
            activation=settings.act("hidden_act"),
            linear=Dense(bias=settings.flag("mlp_bias")),
        )
        each = tuple(
            self.kind(mixer=Attention(mask=mask, **fields), feed_forward=feed_forward, norm=RMSNorm(eps))
            for mask in self.masks(settings, depth)
        )
        return Decoder(
            vocab=settings.integer("vocab_size"),
            width=width,
            depth=depth,
            block=each[0] if len(set(each)) == 1 else Listed(each),
            embedding=Embedding(),
            norm=RMSNorm(eps),
            head=Tied() if settings.flag("tie_word_embeddings") else Untied(),
        )

    def tensors(self, model: Any) -> list[Tensor]:
        tied = type(model.head) is Tied
        found = [table("model.embed_tokens.weight", "embedding.table", ("lm_head.weight",) if tied else ())]
        for layer, (_, _, block) in enumerate(blocks(model)):
            mixer: Any = block.mixer
            feed_forward: Any = block.feed_forward
            name, path = f"model.layers.{layer}", f"layers.{layer}"
            found += attention(f"{name}.self_attn", f"{path}.mixer", has_bias(mixer.linear))
            if mixer.qk_norm is not None:
                inner = ".norm" if isinstance(mixer.qk_norm, AcrossHeads) else ""
                for x in "qk":
                    found += norm(f"{name}.self_attn.{x}_norm", f"{path}.mixer.{x}_norm{inner}")
            for x in ("gate", "up", "down"):
                found += linear(f"{name}.mlp.{x}_proj", f"{path}.feed_forward.{x}", has_bias(feed_forward.linear))
            for ours, theirs in self.norms.items():
                found += norm(f"{name}.{theirs}", f"{path}.{ours}_norm")
        found += norm("model.norm", "norm")
        return found if tied else [*found, Tensor("lm_head.weight", ("head.kernel",), Linear())]


class Llama(LlamaLike):
    model_type, architecture = "llama", "LlamaForCausalLM"
    defaults: ClassVar = {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }

    def further(self, model, mixer, feed_forward):
        if model.width % mixer.heads:
            raise UnfitError(f"layer 0 mixer.heads={mixer.heads} must divide the width {model.width} in llama")
        # Where attention and feed-forward lack biases that the other has, the flags say so apart.
        return {"attention_bias": has_bias(mixer.linear), "mlp_bias": has_bias(feed_forward.linear)}

    def masks(self, settings, depth):
        return [Causal()] * depth


class Mistral(LlamaLike):
    model_type, architecture = "mistral", "MistralForCausalLM"
    defaults: ClassVar = {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }

    def further(self, model, mixer, feed_forward):
        return {"sliding_window": mixer.mask.window if type(mixer.mask) is SlidingWindow else None}

    def masks(self, settings, depth):
        settings.only("attention_bias", False)
        settings.only("mlp_bias", False)
        window = settings.maybe("sliding_window")
        return [Causal() if window is None else SlidingWindow(window)] * depth


class Qwen3(LlamaLike):
    model_type, architecture = "qwen3", "Qwen3ForCausalLM"
    defaults: ClassVar = {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }

    def further(self, model, mixer, feed_forward):
        masks = [block.mixer.mask for block in model.block.each]
        windows = [mask.window for mask in masks if type(mask) is SlidingWindow]
        told: dict[str, Any] = {"attention_bias": has_bias(mixer.linear), "use_sliding_window": bool(windows)}
        told["layer_types"] = [SLIDING if type(mask) is SlidingWindow else FULL for mask in masks]
        return {**told, "sliding_window": windows[0] if windows else None}

    def qk_norm(self, eps):
        return RMSNorm(eps)

    def masks(self, settings, depth):
        settings.only("mlp_bias", False)
        window = settings.maybe("sliding_window") if settings.flag("use_sliding_window") else None
        first = depth if window is None else settings.get("max_window_layers")
        default = [SLIDING if layer >= first else FULL for layer in range(depth)]
        types = kinds(settings, depth, default)
        if SLIDING in types and window is None:
            raise settings.wrong("use_sliding_window", "true with a sliding_window, for sliding layers")
        return [SlidingWindow(window or 1) if kind == SLIDING else Causal() for kind in types]

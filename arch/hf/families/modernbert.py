"""ModernBERT (arXiv 2412.13663) and its decoder (Ettin, arXiv 2507.11412): global and local layers, gated
feed-forwards, a norm behind the embedding and none before the first attention, a prediction head over the tied table.

A local layer of the encoder sees `local_attention // 2` tokens on either side; one of the decoder itself and those
before it, `local_attention // 2` in all.
"""

from __future__ import annotations

from typing import Any, ClassVar

from arch.blocks.bare_mixer import BareMixer
from arch.blocks.pre_norm import PreNorm
from arch.hf.family import Facts, Family, UnfitError, first_block, has_bias, linear, norm, table, want
from arch.hf.layouts import Flat, Joined, Linear, Tensor
from arch.hf.settings import THEIRS, Settings, kinds, rope
from arch.hf.weights import blocks
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, Mask, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embedding_norm import NormedEmbedding
from arch.layers.feed_forward import GatedMLP
from arch.layers.heads.prediction import PredictionHead
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Rotary
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.stacks.patterns import Listed

SLIDING, FULL = "sliding_attention", "full_attention"
EVERY = 3


class ModernBert(Family):
    model_type, architecture = "modernbert", "ModernBertForMaskedLM"
    joined = True
    head = "head"
    model: type[Encoder] | type[Decoder] = Encoder
    whole: Mask = Bidirectional()
    defaults: ClassVar = {
        "hidden_activation": "gelu",
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "decoder_bias": True,
        "classifier_bias": False,
        "classifier_activation": "gelu",
        "local_attention": 128,
        "tie_word_embeddings": True,
    }

    def near(self, half: int) -> Mask:
        """The mask of a local layer."""
        return LocalWindow(half)

    def half(self, mask: Mask) -> int | None:
        """What `near` was given; None: it is another mask."""
        return mask.radius if type(mask) is LocalWindow else None

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, self.model, "model")
        block = first_block(model)
        feed_forward, head = (
            want(block.feed_forward, GatedMLP, "feed_forward"),
            want(model.head, PredictionHead, "head"),
        )
        mixers = [want(one.mixer, Attention, "mixer") for one in model.block.each]
        halves = [self.half(mixer.mask) for mixer in mixers]
        if model.width % mixers[0].heads:
            raise UnfitError(f"layer 0 mixer.heads={mixers[0].heads} must divide the width {model.width}")
        thetas: dict[str, float] = {}
        for mixer, half in zip(mixers, halves, strict=True):
            position = want(mixer.position, Rotary, "mixer.position")
            thetas.setdefault(FULL if half is None else SLIDING, position.base)
        found = [half for half in halves if half is not None]
        special = facts.eos if facts.eos is not None else 0
        return {
            "vocab_size": model.vocab,
            "hidden_size": model.width,
            "intermediate_size": feed_forward.hidden,
            "num_hidden_layers": model.depth,
            "num_attention_heads": mixers[0].heads,
            "hidden_activation": THEIRS[feed_forward.activation],
            "max_position_embeddings": facts.context,
            "norm_eps": want(block.norm, LayerNorm, "norm").eps,
            "norm_bias": want(block.norm, LayerNorm, "norm").bias,
            "attention_bias": has_bias(mixers[0].linear),
            "mlp_bias": has_bias(feed_forward.linear),
            "decoder_bias": True,
            "classifier_bias": has_bias(head.linear),
            "classifier_activation": THEIRS[head.activation],
            "layer_types": [FULL if half is None else SLIDING for half in halves],
            "local_attention": 2 * found[0] if found else 128,
            "rope_parameters": {kind: rope(thetas.get(kind, 10_000.0)) for kind in (FULL, SLIDING)},
            "tie_word_embeddings": True,
            "bos_token_id": facts.bos if facts.bos is not None else 0,
            "cls_token_id": facts.bos if facts.bos is not None else 0,
            "eos_token_id": special,
            "sep_token_id": special,
            "pad_token_id": facts.pad if facts.pad is not None else special,
        }

    def spec(self, settings: Settings) -> Any:
        settings.only("decoder_bias", True)
        settings.only("tie_word_embeddings", True)
        depth, width, heads = (
            settings.integer(name) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        )
        one = LayerNorm(eps=settings.number("norm_eps"), bias=settings.flag("norm_bias"))
        every = settings.get("global_attn_every_n_layers") or EVERY
        types = kinds(settings, depth, [SLIDING if layer % every else FULL for layer in range(depth)])
        feed_forward = GatedMLP(
            hidden=settings.integer("intermediate_size"),
            activation=settings.act("hidden_activation"),
            linear=Dense(bias=settings.flag("mlp_bias")),
        )
        thetas = {
            FULL: settings.rope(theta=float(settings.get("global_rope_theta") or 160_000.0), of=FULL)[0],
            SLIDING: settings.rope(theta=float(settings.get("local_rope_theta") or 10_000.0), of=SLIDING)[0],
        }
        near = self.near(settings.integer("local_attention") // 2)

        def block(layer: int, kind: str) -> Any:
            mixer = Attention(
                heads=heads,
                head_dim=width // heads,
                position=Rotary(base=thetas[kind]),
                mask=near if kind == SLIDING else self.whole,
                linear=Dense(bias=settings.flag("attention_bias")),
            )
            made = PreNorm if layer else BareMixer
            return made(mixer=mixer, feed_forward=feed_forward, norm=one)

        dense = Dense(bias=settings.flag("classifier_bias"))
        return self.model(
            vocab=settings.integer("vocab_size"),
            width=width,
            depth=depth,
            block=Listed(tuple(block(layer, kind) for layer, kind in enumerate(types))),
            embedding=NormedEmbedding(norm=one),
            norm=one,
            head=PredictionHead(norm=one, activation=settings.act("classifier_activation"), linear=dense),
        )

    def tensors(self, model: Any) -> list[Tensor]:
        bias = model.norm.bias
        found = [table("model.embeddings.tok_embeddings.weight", "embedding.table", ("decoder.weight",))]
        found += norm("model.embeddings.norm", "embedding.norm", bias)
        for layer, (_, _, block) in enumerate(blocks(model)):
            name, path = f"model.layers.{layer}", f"layers.{layer}"
            mixer: Any = block.mixer
            feed_forward: Any = block.feed_forward
            for kind, suffix in (("kernel", "weight"), *((("bias", "bias"),) if has_bias(mixer.linear) else ())):
                each: Any = Linear() if kind == "kernel" else Flat()
                held = tuple(f"{path}.mixer.{x}.{kind}" for x in "qkv")
                if self.joined:
                    found.append(Tensor(f"{name}.attn.Wqkv.{suffix}", held, Joined(each)))
                else:
                    found += [Tensor(f"{name}.attn.{x}_proj.{suffix}", (one,), each)
                              for x, one in zip("qkv", held, strict=True)]  # fmt: skip
            found += linear(f"{name}.attn.Wo", f"{path}.mixer.o", has_bias(mixer.linear), 2)
            for kind, suffix in (("kernel", "weight"), *((("bias", "bias"),) if has_bias(feed_forward.linear) else ())):
                held = tuple(f"{path}.feed_forward.{x}.{kind}" for x in ("gate", "up"))
                found.append(Tensor(f"{name}.mlp.Wi.{suffix}", held, Joined(Linear() if kind == "kernel" else Flat())))
            found += linear(f"{name}.mlp.Wo", f"{path}.feed_forward.down", has_bias(feed_forward.linear))
            if layer:
                found += norm(f"{name}.attn_norm", f"{path}.mixer_norm", bias)
            found += norm(f"{name}.mlp_norm", f"{path}.feed_forward_norm", bias)
        found += norm("model.final_norm", "norm", bias)
        found += linear(f"{self.head}.dense", "head.dense", has_bias(model.head.linear))
        found += norm(f"{self.head}.norm", "head.norm", bias)
        return [*found, Tensor("decoder.bias", ("head.bias",), Flat())]


class ModernBertDecoder(ModernBert):
    model_type, architecture = "modernbert-decoder", "ModernBertDecoderForCausalLM"
    joined = False
    head = "lm_head"
    model = Decoder
    whole = Causal()

    def near(self, half):
        return SlidingWindow(half)

    def half(self, mask):
        return mask.window if type(mask) is SlidingWindow else None

"""BERT (arXiv 1810.04805): post-norm, learned positions, a norm over the sum of embeddings, a prediction head.

Its token types have no counterpart: the vector of type 0, which every token has where nothing is said, belongs to the
positions here. It is written as zeros, and added to them when a folder is read; text of type 1 is not distinguished.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from arch.blocks.post_norm import PostNorm
from arch.hf.family import Facts, Family, UnfitError, first_block, linear, norm, table, want
from arch.hf.layouts import Flat, Tensor
from arch.hf.settings import THEIRS, Settings
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding
from arch.layers.feed_forward import MLP
from arch.layers.heads.prediction import PredictionHead
from arch.layers.linear import Dense
from arch.layers.normed_positions import NormedLearned
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import NoPosition
from arch.models.encoder import Encoder

TYPES = "bert.embeddings.token_type_embeddings.weight"
POSITIONS = "bert.embeddings.position_embeddings.weight"


class Bert(Family):
    model_type, architecture = "bert", "BertForMaskedLM"
    base = "bert."
    ignored = (r"^bert\.pooler\.", r"^cls\.seq_relationship\.", r"position_ids$", r"^cls\.predictions\.decoder\.bias$")
    defaults: ClassVar = {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "is_decoder": False,
        "tie_word_embeddings": True,
        "position_embedding_type": "absolute",
    }

    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        want(model, Encoder, "model")
        block = first_block(model)
        mixer, feed_forward = want(block.mixer, Attention, "mixer"), want(block.feed_forward, MLP, "feed_forward")
        if model.width % mixer.heads:
            raise UnfitError(f"layer 0 mixer.heads={mixer.heads} must divide the width {model.width} in bert")
        return {
            "vocab_size": model.vocab,
            "hidden_size": model.width,
            "num_hidden_layers": model.depth,
            "num_attention_heads": mixer.heads,
            "intermediate_size": feed_forward.hidden,
            "hidden_act": THEIRS[feed_forward.activation],
            "max_position_embeddings": want(model.position, NormedLearned, "position").length,
            "type_vocab_size": 2,
            "layer_norm_eps": want(block.norm, LayerNorm, "norm").eps,
            "tie_word_embeddings": True,
            "bos_token_id": facts.bos,
            "eos_token_id": facts.eos,
            "pad_token_id": facts.pad,
        }

    def spec(self, settings: Settings) -> Encoder:
        settings.only("is_decoder", False)
        settings.only("tie_word_embeddings", True)
        settings.only("position_embedding_type", "absolute")
        width, heads, bias = settings.integer("hidden_size"), settings.integer("num_attention_heads"), Dense(bias=True)
        one, act = LayerNorm(eps=settings.number("layer_norm_eps")), settings.act("hidden_act")
        mixer = Attention(
            heads=heads, head_dim=width // heads, position=NoPosition(), mask=Bidirectional(), linear=bias
        )
        return Encoder(
            vocab=settings.integer("vocab_size"),
            width=width,
            depth=settings.integer("num_hidden_layers"),
            block=PostNorm(mixer=mixer, feed_forward=MLP(settings.integer("intermediate_size"), act, bias), norm=one),
            embedding=Embedding(),
            position=NormedLearned(length=settings.integer("max_position_embeddings"), norm=one),
            norm=None,
            head=PredictionHead(norm=one, activation=act, linear=bias),
        )

    def tensors(self, model: Any) -> list[Tensor]:
        found = [
            table("bert.embeddings.word_embeddings.weight", "embedding.table", ("cls.predictions.decoder.weight",)),
            Tensor(POSITIONS, ("position.table",), Flat(2)),
            *norm("bert.embeddings.LayerNorm", "position.norm", True),
        ]
        for layer in range(model.depth):
            name, path = f"bert.encoder.layer.{layer}", f"layers.{layer}"
            for x, theirs in (("q", "query"), ("k", "key"), ("v", "value")):
                found += linear(f"{name}.attention.self.{theirs}", f"{path}.mixer.{x}", True)
            found += linear(f"{name}.attention.output.dense", f"{path}.mixer.o", True, 2)
            found += norm(f"{name}.attention.output.LayerNorm", f"{path}.mixer_norm", True)
            found += linear(f"{name}.intermediate.dense", f"{path}.feed_forward.up", True)
            found += linear(f"{name}.output.dense", f"{path}.feed_forward.down", True)
            found += norm(f"{name}.output.LayerNorm", f"{path}.feed_forward_norm", True)
        found += linear("cls.predictions.transform.dense", "head.dense", True)
        found += norm("cls.predictions.transform.LayerNorm", "head.norm", True)
        return [*found, Tensor("cls.predictions.bias", ("head.bias",), Flat())]

    def constants(self, model):
        return {TYPES: np.zeros((2, model.width), np.float32)}

    def absorbed(self, tensors, take):
        types = take(TYPES)
        if types is not None and types.any():
            tensors = {**tensors, POSITIONS: tensors[POSITIONS] + types[:1]}
        return tensors

"""The base model: embedding, positions, layers, a final norm."""

import torch
from torch import nn
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from .core import CACHE, make
from .places import find_places
from .pretrained import StrataPreTrainedModel
from .versions import capture_outputs, merge_with_config_defaults


class StrataModel(StrataPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        parts, width = config.parts, config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.embedding = None if parts["embedding"] is None else make(parts["embedding"], width)
        self.position = make(parts["position"], width, config.num_attention_heads)
        self.masks = {key: make(mask) for key, mask in parts["masks"].items()}
        self.layers = nn.ModuleList([
            make(parts["blocks"][kind], config, index) for index, kind in enumerate(parts["layers"])
        ])  # fmt: skip
        self.stack = make(parts["stack"], config)
        self.norm = None if parts["norm"] is None else make(parts["norm"], width)
        self.gradient_checkpointing = False
        self.post_init()

    def new_cache(self):
        """The cache before the first token."""
        return DynamicCache(config=self.config)

    def told(self, inputs_embeds, cache, **kwargs):
        """What the layers are told beside the stream and its places."""
        return {"cache": cache, **kwargs}

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        cache=None,
        inputs_embeds=None,
        use_cache=None,
        past_key_values=None,
        **kwargs,
    ):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None and self.config.caches:
            cache = self.new_cache()
        rows, length = inputs_embeds.shape[:2]
        seen = 0 if cache is None else cache.get_seq_length()
        padding = attention_mask if attention_mask is not None and attention_mask.ndim == 2 else None
        if position_ids is None and padding is not None and padding.shape[1] == seen + length:
            position_ids = (padding.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        elif position_ids is None:
            position_ids = torch.arange(seen, seen + length, device=inputs_embeds.device)[None]

        told = self.told(inputs_embeds, cache, **kwargs)
        masks = {
            key: mask.standard(self.config, inputs_embeds, attention_mask, told["cache"], position_ids)
            for key, mask in self.masks.items()
        }
        places = find_places(rows, position_ids, padding, seen)
        hidden_states = inputs_embeds if self.embedding is None else self.embedding(inputs_embeds)
        hidden_states = self.position.embed(hidden_states, position_ids)
        hidden_states = self.stack(
            self.layers[: self.config.num_hidden_layers],
            hidden_states,
            masks=masks,
            position_ids=position_ids,
            places=places,
            model_bias=self.position.bias(places.query, places.key),
            **told,
        )
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states, **{CACHE: cache})

"""The decoder of a recurrent translator: the bottom layer with the attention, whose context every layer reads.

A cache keeps the states after each token: h as keys; c, and of the bottom layer the context, as values. What is looked
up of the source is made once, and kept in the cache of cross-attention.
"""

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import can_return_tuple

from .attentive_lstm import StrataAttentiveLSTM
from .core import CACHE
from .recurrent_half import StrataRecurrentHalf


class StrataRecurrentDecoder(StrataRecurrentHalf):
    def first(self, part, width, memory):
        return StrataAttentiveLSTM(part, width, memory)

    def keys(self, memory, cache):
        """What is looked up of the memory [B, S, U]."""
        if cache is not None and cache.is_updated.get(0):
            return cache.cross_attention_cache.layers[0].keys[:, 0]
        key = self.layers[0].attention.k_proj(memory)
        if cache is not None:
            cache.cross_attention_cache.update(key[:, None], key[:, None, :, :0], 0)
            cache.is_updated[0] = True
        return key

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        inputs_embeds=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        cache=None,
        use_cache=None,
        past_key_values=None,
        output_hidden_states=None,
        **kwargs,
    ):
        states = [self.embedded(input_ids, inputs_embeds)]
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache())
        own = None if cache is None else cache.self_attention_cache
        seen, length = 0 if own is None else own.get_seq_length(), states[0].shape[1]
        document, whole = self.documents(states[0], attention_mask, seen)
        before = whole[:, :-length].amax(1) if seen else None
        memory, width = encoder_hidden_states, self.config.hidden_size
        source = torch.ones_like(memory[..., 0]) if encoder_attention_mask is None else encoder_attention_mask

        def held(index):
            """h, c and what else the layer kept of the last token."""
            layer = own.layers[index]
            return layer.keys[:, 0, -1], *layer.values[:, 0, -1].tensor_split([width], dim=-1)

        def kept(index, h, *more):
            if own is not None:
                own.update(h[:, None], torch.cat([one.float() for one in more], dim=-1)[:, None], index)

        state = None
        if seen:
            *state, context = held(0)
            state = (*state, context.to(memory.dtype))
        h, c, last, context = self.layers[0](
            states[0], document, memory, self.keys(memory, cache), source.long(), state, before
        )
        kept(0, h, c, last)
        cell = self.layers[0].cell
        states.append(cell.clipped(cell.output(h, memory)))
        for index, layer in enumerate(self.layers[1:], start=1):
            h, c = layer.lstm(states[-1], document, held(index)[:2] if seen else None, before, context)
            kept(index, h, c)
            states.append(layer.output(h, states[-1]))
        return BaseModelOutputWithPast(
            last_hidden_state=states[-1],
            hidden_states=self.asked(states, output_hidden_states),
            **{CACHE: cache},
        )

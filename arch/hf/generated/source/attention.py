"""Softmax attention with free heads, head width and grouped key-value heads (arXiv 1706.03762, 2305.13245)."""

import torch
from torch import nn

from .core import make
from .head_norm import head_norm
from .versions import ALL_ATTENTION_FUNCTIONS


def eager_attention_forward(
    module, query, key, value, attention_mask, scaling, dropout=0.0, softcap=None, **kwargs
):  # as in Transformers: states [B, N, T, K], a mask that is added
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class StrataAttention(nn.Module):
    """Queries, keys and values of one input."""

    mixes = True

    def __init__(self, part, config, layer_idx):
        super().__init__()
        width, heads, kv_heads, head_dim = config.hidden_size, part["heads"], part["kv_heads"], part["head_dim"]
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = head_dim
        self.num_key_value_groups = heads // kv_heads
        self.scaling = part["scale"]
        self.attn_logit_softcapping = part["softcap"]
        self.is_causal = part["causal"]
        self.sliding_window = part["mask"]["window"] if part["mask"]["kind"] == "SlidingWindow" else None
        self.q_proj = nn.Linear(width, heads * head_dim, bias=part["bias"])
        self.k_proj = nn.Linear(width, kv_heads * head_dim, bias=part["bias"])
        self.v_proj = nn.Linear(width, kv_heads * head_dim, bias=part["bias"])
        self.o_proj = nn.Linear(heads * head_dim, width, bias=part["bias"])
        self.position = make(part["position"], head_dim, heads)
        self.q_norm = head_norm(part["qk_norm"], heads, head_dim, config.depths[layer_idx])
        self.k_norm = head_norm(part["qk_norm"], kv_heads, head_dim, config.depths[layer_idx])
        self.mask = part["mask_key"]
        self.z = None if part["z"] is None else make(part["z"], head_dim)  # what the heads' outputs pass through

    def mask_of(self, query, masks, places, model_bias):
        """What is handed to the attention function as its mask."""
        return masks[self.mask]

    def forward(self, hidden_states, masks, position_ids, places=None, model_bias=None, cache=None, **kwargs):
        input_shape = hidden_states.shape[:-1]
        hidden_shape = (*input_shape, -1, self.head_dim)
        query = self.q_proj(hidden_states).view(hidden_shape)
        key = self.k_proj(hidden_states).view(hidden_shape)
        value = self.v_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        if self.q_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query = self.position.rotate(query.transpose(1, 2), position_ids)
        key = self.position.rotate(key.transpose(1, 2), position_ids)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attention_mask = self.mask_of(query, masks, places, model_bias)
        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attn_output, attn_weights = attention_interface(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            softcap=self.attn_logit_softcapping,
            **kwargs,
        )
        if self.z is not None:
            attn_output = self.z(attn_output.reshape(hidden_shape))
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()
        return self.o_proj(attn_output), attn_weights

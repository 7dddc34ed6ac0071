"""Cross-attention: the target reads what the encoder made of the source (arXiv 1706.03762, section 3.2.3).

Keys and values are made once, and kept in the cache of cross-attention.
"""

from torch import nn

from .attention import eager_attention_forward
from .head_norm import head_norm
from .versions import ALL_ATTENTION_FUNCTIONS


class StrataCrossAttention(nn.Module):
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
        self.is_causal = False
        self.q_proj = nn.Linear(width, heads * head_dim, bias=part["bias"])
        self.k_proj = nn.Linear(part["memory_width"], kv_heads * head_dim, bias=part["bias"])
        self.v_proj = nn.Linear(part["memory_width"], kv_heads * head_dim, bias=part["bias"])
        self.o_proj = nn.Linear(heads * head_dim, width, bias=part["bias"])
        norm, depth = part["qk_norm"], config.depths[layer_idx]
        self.q_norm = head_norm(norm, heads, head_dim, depth)
        self.k_norm = head_norm(norm, kv_heads, head_dim, depth)

    def split(self, projected):
        """[B, T, N K] as [B, T, N, K]."""
        return projected.unflatten(-1, (-1, self.head_dim))

    def made(self, memory, cache):
        """Keys and values [B, H, S, K] of the memory, or those in the cache."""
        if cache is not None and cache.is_updated.get(self.layer_idx):
            layer = cache.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        key, value = self.split(self.k_proj(memory)), self.split(self.v_proj(memory)).transpose(1, 2)
        key = (key if self.k_norm is None else self.k_norm(key)).transpose(1, 2)
        if cache is not None:
            cache.cross_attention_cache.update(key, value, self.layer_idx)
            cache.is_updated[self.layer_idx] = True
        return key, value

    def forward(self, hidden_states, memory=None, memory_mask=None, pair_cache=None, **kwargs):
        query = self.split(self.q_proj(hidden_states))
        query = (query if self.q_norm is None else self.q_norm(query)).transpose(1, 2)
        key, value = self.made(memory, pair_cache)
        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attn_output, attn_weights = attention_interface(
            self,
            query,
            key,
            value,
            memory_mask,
            dropout=0.0,
            scaling=self.scaling,
            softcap=self.attn_logit_softcapping,
        )
        return self.o_proj(attn_output.flatten(2)), attn_weights

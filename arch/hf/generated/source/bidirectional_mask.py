"""A token sees its whole document."""

import torch
from transformers.masking_utils import create_bidirectional_mask

from .versions import standard_mask


class StrataBidirectional:
    def __init__(self, part):
        pass

    def allowed(self, query, key):
        return torch.ones_like(query - key, dtype=torch.bool)

    def standard(self, config, inputs_embeds, attention_mask, cache, position_ids):
        return standard_mask(create_bidirectional_mask, config, inputs_embeds, attention_mask)

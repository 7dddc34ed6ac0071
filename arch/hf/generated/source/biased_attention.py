"""Softmax attention with a bias on its scores, or under a mask that is a rule of its own: one mask that is added.

Backends that make no masks cannot run it.
"""

import torch

from .attention import StrataAttention
from .core import make


class StrataBiasedAttention(StrataAttention):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.rule = make(part["mask"])
        self.sliding_window = None

    def mask_of(self, query, masks, places, model_bias):
        visible = self.rule.allowed(places.query[:, :, None], places.key[:, None, :]) & places.same
        bias = self.position.bias(places.query, places.key)
        if model_bias is not None:
            bias = model_bias if bias is None else bias + model_bias
        if bias is None:
            bias = torch.zeros((), device=query.device)
        return torch.where(visible[:, None], bias.to(query.dtype), torch.finfo(query.dtype).min)

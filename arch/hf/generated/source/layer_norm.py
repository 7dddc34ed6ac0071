"""LayerNorm (arXiv 1607.06450): (x - mean) / sqrt(var + eps) * weight + bias, statistics in float32."""

import torch
from torch import nn


class StrataLayerNorm(nn.Module):
    def __init__(self, part, width, depth=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if part["bias"] else None
        self.eps = part["eps"]

    def forward(self, hidden_states):
        x = hidden_states.float()
        x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        if self.bias is None:
            return self.weight * x.to(hidden_states.dtype)
        return self.bias + self.weight * x.to(hidden_states.dtype)

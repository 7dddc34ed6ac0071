"""Group normalisation over channels (arXiv 1803.08494), token by token."""

import torch
from torch import nn


class StrataTokenGroupNorm(nn.Module):
    starts = {"weight": 1.0, "bias": 0.0}  # noqa: RUF012

    def __init__(self, part, width, depth=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.groups, self.eps = part["groups"], part["eps"]

    def forward(self, hidden_states):
        x = hidden_states.float().unflatten(-1, (self.groups, -1))
        x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return self.bias + self.weight * x.flatten(-2).to(hidden_states.dtype)

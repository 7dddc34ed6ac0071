"""RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight."""

import torch
from torch import nn


class StrataRMSNorm(nn.Module):
    def __init__(self, part, width, depth=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = part["eps"]

    def forward(self, hidden_states):
        x = hidden_states.float()
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(hidden_states.dtype)

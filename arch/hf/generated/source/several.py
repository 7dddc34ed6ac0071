"""Quantisers side by side, each with codes of its own: one a head, or one for each part of a vector."""

import torch
from torch import nn

from .core import make


class StrataPerHead(nn.Module):
    """One for each head of states [..., N, K]."""

    def __init__(self, part, width):
        super().__init__()
        self.each = nn.ModuleList([make(part["each"], width) for _ in range(part["count"])])

    def forward(self, states):
        return torch.stack([one(head) for one, head in zip(self.each, states.unbind(-2), strict=True)], dim=-2)


class StrataGrouped(nn.Module):
    """Vectors cut into equal parts, one for each."""

    def __init__(self, part, width):
        super().__init__()
        self.each = nn.ModuleList([make(part["each"], width // part["count"]) for _ in range(part["count"])])

    def forward(self, states):
        parts = states.chunk(len(self.each), dim=-1)
        return torch.cat([one(part) for one, part in zip(self.each, parts, strict=True)], dim=-1)

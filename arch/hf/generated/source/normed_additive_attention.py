"""Additive attention whose last layer is a direction and a length (arXiv 1602.07868)."""

import torch
from torch import nn

from .additive_attention import StrataAdditiveAttention


class StrataNormedAdditiveAttention(StrataAdditiveAttention):
    def __init__(self, part, query, memory):
        super().__init__(part, query, memory)
        units = part["units"] or query
        self.length, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(units))
        self.starts = {**self.starts, "length": units**-0.5, "bias": 0.0}

    def energies(self, sums):
        direction = self.energy.float()
        direction = direction * (self.length.float() / direction.square().sum().sqrt())
        return ((sums + self.bias).tanh() @ direction.to(sums.dtype)).float()

"""Additive attention (arXiv 1409.0473): a network of one hidden layer says how much of each vector of a memory."""

import torch
from torch import nn


class StrataAdditiveAttention(nn.Module):
    starts = {"energy": "normal"}  # noqa: RUF012

    def __init__(self, part, query, memory):
        super().__init__()
        units = part["units"] or query
        self.q_proj = nn.Linear(query, units, bias=part["bias"])
        self.k_proj = nn.Linear(memory, units, bias=part["bias"])
        self.energy = nn.Parameter(torch.empty(units))

    def energies(self, sums):
        """[B, S] of [B, S, U]."""
        return (sums.tanh() @ self.energy).float()

    def forward(self, query, key, memory, seen):
        """The context [B, M] of one query a row. `key`: [B, S, U], of the memory; `seen`: which of it, [B, S]."""
        energies = self.energies(self.q_proj(query)[:, None] + key)
        pattern = energies.masked_fill(~seen, torch.finfo(energies.dtype).min).softmax(-1)
        return torch.einsum("bs,bsd->bd", pattern.to(memory.dtype), memory)

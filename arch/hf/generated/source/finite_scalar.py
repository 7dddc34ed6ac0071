"""Finite scalar quantisation (arXiv 2309.15505): a few numbers, each rounded to one of its levels."""

import torch
from torch import nn

from .projected import StrataProjected


class StrataFiniteScalar(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.levels, self.eps, self.artanh = part["levels"], part["eps"], part["compat"] == "artanh"
        self.projected = StrataProjected(width, len(self.levels))

    def forward(self, states):
        levels = torch.tensor(self.levels, device=states.device, dtype=torch.float32)
        numbers = self.projected.down(states)
        eps, bend = (self.eps, torch.atanh) if self.artanh else (-self.eps, torch.tan)
        half, offset = (levels - 1) * (1 + eps) / 2, torch.where(levels % 2 == 1, 0.0, 0.5)
        bounded = torch.tanh(numbers + bend(offset / half)) * half - offset
        rounded = bounded.round().detach() + (bounded - bounded.detach())
        return self.projected.up(rounded / (levels // 2), states)

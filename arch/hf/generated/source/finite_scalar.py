"""Finite scalar quantisation (arXiv 2309.15505): a few numbers, each rounded to one of its levels."""

import torch
from torch import nn


class StrataFiniteScalar(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.levels, self.eps = part["levels"], part["eps"]
        self.projected = nn.Module()
        if len(self.levels) != width:
            self.projected.to_levels = nn.Linear(width, len(self.levels))
            self.projected.from_levels = nn.Linear(len(self.levels), width)

    def forward(self, states):
        levels = torch.tensor(self.levels, device=states.device, dtype=torch.float32)
        inside = hasattr(self.projected, "to_levels")
        numbers = self.projected.to_levels(states).float() if inside else states.float()
        half, offset = (levels - 1) * (1 - self.eps) / 2, torch.where(levels % 2 == 1, 0.0, 0.5)
        bounded = torch.tanh(numbers + torch.tan(offset / half)) * half - offset
        rounded = bounded.round().detach() + (bounded - bounded.detach())
        values = rounded / (levels // 2)
        values = self.projected.from_levels(values.to(states.dtype)) if inside else values
        return values.to(states.dtype)

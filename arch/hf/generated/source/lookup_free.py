"""Lookup-free quantisation (arXiv 2310.05737): a few numbers, each replaced by its sign."""

import torch
from torch import nn

from .projected import StrataProjected


class StrataLookupFree(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.projected = StrataProjected(width, part["binary"])

    def forward(self, states):
        numbers = self.projected.down(states)
        signs = torch.where(numbers > 0, 1.0, -1.0) + (numbers - numbers.detach())
        return self.projected.up(signs, states)

"""Gated sparse autoencoders (arXiv 2404.16014): which directions are there and how much of each, separately."""

import torch
from torch import nn

from .sparse import StrataSparse


class StrataGatedSparse(StrataSparse):
    def __init__(self, part, width):
        super().__init__(part, width)
        self.scale, self.size_bias = (nn.Parameter(torch.zeros(part["codes"])) for _ in range(2))
        self.starts |= {"scale": 0.0, "size_bias": 0.0}

    def chosen(self, states):
        gate = self.before(states)
        inner = gate - self.encoder_bias.float()
        sizes = (inner * self.scale.float().exp() + self.size_bias.float()).relu()
        return self.strongest(sizes.where(gate > 0, 0.0), self.k)

"""Sparse autoencoders with a bound of all vectors: what is above it stays (arXiv 2412.06410).

While it was trained the bound was that of each batch; here it stays as it is, so that vectors do not depend on others.
"""

import torch

from .sparse import StrataSparse


class StrataBatchTopK(StrataSparse):
    def __init__(self, part, width):
        super().__init__(part, width)
        self.most = part["codes"] if part["most"] is None else part["most"]
        self.register_buffer("threshold", torch.zeros(()))
        self.starts |= {"threshold": 0.0}

    def chosen(self, states):
        ids, sizes = self.strongest(self.before(states), self.most)
        stays = self.rounded(sizes) >= self.threshold.float().clamp(min=1e-30)
        return ids, sizes.where(stays, 0.0)

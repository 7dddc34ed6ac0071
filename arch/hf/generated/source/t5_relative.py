"""Learned bias by bucketed distance (arXiv 1910.10683, section 2.1)."""

import math

import torch
from torch import nn

from .position import StrataNoPosition


class StrataT5Relative(StrataNoPosition):
    starts = {"weight": "normal"}  # noqa: RUF012

    def __init__(self, part, width, heads=None):
        super().__init__(part, width)
        self.buckets, self.max_distance = part["buckets"], part["max_distance"]
        self.bidirectional = part["bidirectional"]
        self.weight = nn.Parameter(torch.empty(self.buckets, part["heads"] or heads))

    def bucket(self, relative):
        """The bucket of key position minus query position."""
        buckets, offset = self.buckets, torch.zeros_like(relative)
        if self.bidirectional:
            buckets //= 2
            offset = torch.where(relative > 0, buckets, 0)
            distance = relative.abs()
        else:
            distance = (-relative).clamp(min=0)
        exact = buckets // 2
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        coarse = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        return offset + torch.where(distance < exact, distance, coarse)

    def bias(self, query, key):
        buckets = self.bucket(key[:, None, :] - query[:, :, None])
        return self.weight[buckets].float().permute(0, 3, 1, 2)

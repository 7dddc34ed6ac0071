"""Attention with linear biases (arXiv 2108.12409): minus slope times distance."""

import math

import torch

from .position import StrataNoPosition


class StrataALiBi(StrataNoPosition):
    def __init__(self, part, width, heads=None):
        super().__init__(part, width)
        heads = part["heads"] or heads
        power = 2 ** math.floor(math.log2(heads))
        slopes = [2.0 ** (-8.0 * n / power) for n in range(1, power + 1)]
        slopes += [2.0 ** (-8.0 * n / (2 * power)) for n in range(1, 2 * power + 1, 2)]
        self.slopes = slopes[:heads]

    def bias(self, query, key):
        distance = (query[:, :, None] - key[:, None, :]).abs().float()
        slopes = torch.tensor(self.slopes, device=query.device)
        return -slopes[None, :, None, None] * distance[:, None]

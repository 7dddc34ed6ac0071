"""Positive orthogonal random features (FAVOR+, arXiv 2009.14794, eq. 5): exp(w . x - |x|^2 / 2) / sqrt(R)."""

import math

import torch
from torch import nn


class StrataPositiveOrthogonal(nn.Module):
    starts = {"directions": "normal"}  # noqa: RUF012

    def __init__(self, part, head_dim):
        super().__init__()
        self.count = part["count"]
        self.register_buffer("directions", torch.empty(self.count, head_dim))

    def exponents(self, states):
        """w . x - |x|^2 / 2, x scaled by K^(-1/4)."""
        x = states.float() * states.shape[-1] ** -0.25
        return x @ self.directions.float().T - 0.5 * x.square().sum(-1, keepdim=True)

    def features(self, exponents):
        return (exponents.exp() + 1e-6) / math.sqrt(self.count)

    def query(self, states):
        exponents = self.exponents(states)
        return self.features(exponents - exponents.amax(-1, keepdim=True).detach())

    def key(self, states, visible, whole):
        exponents = self.exponents(states)
        if not whole:
            return self.features(exponents)
        exponents = exponents.masked_fill(~visible[:, :, None, None], -torch.inf)
        largest = exponents.amax((1, 3), keepdim=True).detach()
        return self.features(exponents - torch.where(largest.isfinite(), largest, 0.0))

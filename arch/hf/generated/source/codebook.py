"""Codebook features (arXiv 2310.17230): a vector becomes the sum of the k codes most similar to it.

Its reconstruction loss is one of training in Strata; here the network's own loss alone moves the codes.
"""

import torch
from torch import nn

from .nearest import nearest, straight_through


class StrataCodebook(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.k, self.metric, self.mean, self.prenorm = part["k"], part["metric"], part["mean"], part["prenorm"]
        self.codes = nn.Parameter(torch.empty(part["codes"], width))
        self.starts = {"codes": "normal"}
        if self.prenorm == "affine":
            self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
            self.starts |= {"weight": 1.0, "bias": 0.0}

    def normed(self, states):
        """What is looked up."""
        if self.prenorm == "none":
            return states
        x = states.float()
        x = x - x.mean(-1, keepdim=True)
        x = (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)).to(states.dtype)
        return x * self.weight + self.bias if self.prenorm == "affine" else x

    def forward(self, states):
        states = self.normed(states)
        values = self.codes[nearest(states, self.codes, self.metric, self.k)].float().sum(-2)
        return straight_through(states, values / self.k if self.mean else values)

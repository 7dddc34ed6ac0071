"""Vector quantisation (arXiv 1711.00937): each vector becomes the nearest of the codes, which stay as they are.

Its losses, and the running means that move its codes, are those of training in Strata.
"""

import torch
from torch import nn

from .nearest import nearest, straight_through


class StrataNearestCode(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.metric = part["metric"]
        self.register_buffer("codes", torch.empty(part["codes"], width))
        self.starts = {"codes": "normal"}

    def forward(self, states):
        return straight_through(states, self.codes[nearest(states, self.codes, self.metric, 1)][..., 0, :])

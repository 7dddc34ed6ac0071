"""SimVQ (arXiv 2411.02038): the nearest of fixed random codes behind one learned linear map."""

import torch
from torch import nn

from .nearest import nearest, straight_through


class StrataSimVQ(nn.Module):
    starts = {"fixed": "normal", "map": "normal"}  # noqa: RUF012

    def __init__(self, part, width):
        super().__init__()
        self.metric = part["metric"]
        self.register_buffer("fixed", torch.empty(part["codes"], width))
        self.map = nn.Parameter(torch.empty(width, width))

    def forward(self, states):
        codes = (self.fixed @ self.map).detach()
        return straight_through(states, codes[nearest(states, codes, self.metric, 1)][..., 0, :])

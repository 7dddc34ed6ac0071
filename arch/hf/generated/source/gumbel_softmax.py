"""Gumbel-softmax codes (arXiv 1611.01144): the most probable code, with the gradient of the mean of all.

Noise is drawn while training in Strata alone.
"""

import torch
from torch import nn


class StrataGumbelSoftmax(nn.Module):
    starts = {"codes": "normal"}  # noqa: RUF012

    def __init__(self, part, width):
        super().__init__()
        self.temperature = part["temperature"]
        self.logits = nn.Linear(width, part["codes"])
        self.codes = nn.Parameter(torch.empty(part["codes"], width))

    def forward(self, states):
        table = self.codes.float()
        logits = self.logits(states).float()
        soft = (logits / self.temperature).softmax(-1) @ table
        return (table.detach()[logits.argmax(-1)] + (soft - soft.detach())).to(states.dtype)

"""A learned vector for each position, added to the token embedding."""

import torch
from torch import nn

from .position import StrataNoPosition


class StrataLearned(StrataNoPosition):
    starts = {"weight": "normal"}  # noqa: RUF012

    def __init__(self, part, width, heads=None):
        super().__init__(part, width)
        self.weight = nn.Parameter(torch.empty(part["length"], width))

    def embed(self, hidden_states, position_ids):
        return hidden_states + self.weight[position_ids]

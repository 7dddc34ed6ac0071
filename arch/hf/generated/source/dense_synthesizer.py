"""The dense synthesizer: each token tells from itself which places it reads."""

import torch
from torch import nn

from .synthesizer import StrataSynthesizer


class StrataDenseSynthesizer(StrataSynthesizer):
    inputs = ("q", "v")
    starts = {"places": "normal"}  # noqa: RUF012

    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.places = nn.Parameter(torch.empty(self.head_dim, self.heads, part["length"]))

    def scores(self, hidden_states):
        hidden = self.states("q", hidden_states).relu()
        return torch.einsum("btnk,kns->bnts", hidden, self.places[:, :, : hidden_states.shape[1]])

"""The random synthesizer: each head has one learned pattern."""

import torch
from torch import nn

from .synthesizer import StrataSynthesizer


class StrataRandomSynthesizer(StrataSynthesizer):
    inputs = ("v",)
    starts = {"pattern": "normal"}  # noqa: RUF012

    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.pattern = nn.Parameter(torch.empty(self.heads, part["length"], part["length"]))

    def scores(self, hidden_states):
        length = hidden_states.shape[1]
        return self.pattern[None, :, :length, :length]

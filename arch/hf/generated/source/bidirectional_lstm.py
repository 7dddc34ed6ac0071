"""Two LSTMs, one of them from the end (Schuster and Paliwal 1997)."""

import torch
from torch import nn

from .recurrence import StrataRecurrence


class StrataBothDirections(nn.Module):
    def __init__(self, part, inputs, hidden):
        super().__init__()
        self.forwards = StrataRecurrence(part, inputs, hidden)
        self.backwards = StrataRecurrence(part, inputs, hidden, reverse=True)

    def forward(self, hidden_states, document):
        ways = (self.forwards, self.backwards)
        return torch.cat([way.output(way(hidden_states, document)[0], hidden_states) for way in ways], dim=-1)


class StrataBidirectionalLSTM(nn.Module):
    mixes = True

    def __init__(self, part, config, layer_idx):
        super().__init__()
        hidden = part["hidden"] or config.hidden_size
        self.both = StrataBothDirections(part["cell"], config.hidden_size, hidden)
        self.o_proj = nn.Linear(2 * hidden, config.hidden_size, bias=part["bias"])

    def forward(self, hidden_states, places, cache=None, **kwargs):
        return self.o_proj(self.both(hidden_states, places.query_document)), None

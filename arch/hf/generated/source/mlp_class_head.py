"""The classification head W act(W_in x + b_in) + b."""

from torch import nn
from transformers.activations import ACT2FN


class StrataMLPHead(nn.Module):
    def __init__(self, part, inputs, classes, width):
        super().__init__()
        hidden = part["hidden"] or width
        self.up_proj = nn.Linear(inputs, hidden, bias=part["bias"])
        self.act_fn = ACT2FN[part["activation"]]
        self.out = nn.Linear(hidden, classes)

    def forward(self, hidden_states):
        return self.out(self.act_fn(self.up_proj(hidden_states)))

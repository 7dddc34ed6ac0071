"""The LSTM cell (Hochreiter and Schmidhuber 1997)."""

import torch
from torch import nn

from .core import make


class StrataLSTMCell(nn.Module):
    starts = {"bias": 0.0}  # noqa: RUF012

    def __init__(self, part, inputs, hidden, context=None):
        super().__init__()
        self.hidden = hidden
        self.x = nn.Linear(inputs, 4 * hidden, bias=part["bias"])
        self.h = nn.Linear(hidden, 4 * hidden, bias=part["bias"])
        self.context = None if context is None else nn.Linear(context, 4 * hidden, bias=part["bias"])
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.clip = None if part["clip"] is None else make(part["clip"])

    def read(self, hidden_states):
        """What the input adds to the gates."""
        return self.x(hidden_states) + self.bias

    def more(self, context):
        """What a context adds to them."""
        return self.context(context)

    def empty(self, like):
        h = like.new_zeros(like.shape[0], self.hidden)
        return h, h.float()

    def clipped(self, states):
        delta = None if self.clip is None else self.clip()
        return states if delta is None else states.clamp(-delta, delta)

    def output(self, h, like):
        """What others read of h, in the type of `like`."""
        return h.to(like.dtype)

    def forward(self, gates, h, c):
        i, f, o, g = (gates + self.h(h)).float().chunk(4, dim=-1)
        c = self.clipped(f.sigmoid() * c + i.sigmoid() * g.tanh())
        return (o.sigmoid() * c.tanh()).to(h.dtype), c

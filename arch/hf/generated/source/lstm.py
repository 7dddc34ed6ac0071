"""An LSTM in the place of attention (Hochreiter and Schmidhuber 1997).

A cache keeps h and c after each token as its keys and values; the last of them go on.
"""

import torch
from torch import nn


class StrataLSTMCell(nn.Module):
    starts = {"bias": 0.0}  # noqa: RUF012

    def __init__(self, part, inputs, hidden):
        super().__init__()
        self.x = nn.Linear(inputs, 4 * hidden, bias=part["bias"])
        self.h = nn.Linear(hidden, 4 * hidden, bias=part["bias"])
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.delta = None if part["clip"] is None else part["clip"]["delta"]

    def forward(self, gates, h, c):
        i, f, o, g = (gates + self.h(h)).float().chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        c = c if self.delta is None else c.clamp(-self.delta, self.delta)
        return (o.sigmoid() * c.tanh()).to(h.dtype), c


class StrataRecurrence(nn.Module):
    """A cell over the tokens of a row: a document begins with the empty state, padding leaves the state as it is."""

    def __init__(self, part, inputs, hidden, reverse=False):
        super().__init__()
        self.cell, self.hidden, self.reverse = StrataLSTMCell(part, inputs, hidden), hidden, reverse
        self.delta = self.cell.delta

    def forward(self, hidden_states, document, state=None, before=None):
        """h and c [B, T, H] after each token. `state`, `before`: (h, c) that came before, and of which document."""
        rows, length = document.shape
        gates = self.cell.x(hidden_states) + self.cell.bias
        h = hidden_states.new_zeros(rows, self.hidden)
        empty = (h, h.float())
        h, c = empty if state is None else state
        held = torch.zeros_like(document[:, 0]) if before is None else before
        found = []
        for index in reversed(range(length)) if self.reverse else range(length):
            now = document[:, index]
            begun = (held == now)[:, None]
            new = self.cell(gates[:, index], torch.where(begun, h, empty[0]), torch.where(begun, c, empty[1]))
            there = (now > 0)[:, None]
            h, c, held = torch.where(there, new[0], h), torch.where(there, new[1], c), torch.where(now > 0, now, held)
            found.append((h, c))
        found = found[::-1] if self.reverse else found
        return tuple(torch.stack(states, dim=1) for states in zip(*found, strict=True))

    def clipped(self, h):
        """What others read."""
        return h if self.delta is None else h.clamp(-self.delta, self.delta)


class StrataLSTM(nn.Module):
    mixes = True

    def __init__(self, part, config, layer_idx):
        super().__init__()
        self.layer_idx, hidden = layer_idx, part["hidden"] or config.hidden_size
        self.forwards = StrataRecurrence(part["cell"], config.hidden_size, hidden)
        self.o_proj = nn.Linear(hidden, config.hidden_size, bias=part["bias"])

    def forward(self, hidden_states, places, cache=None, **kwargs):
        length = hidden_states.shape[1]
        state = before = None
        if cache is not None and places.key_document.shape[1] > length:
            layer = cache.layers[self.layer_idx]
            state = (layer.keys[:, 0, -1], layer.values[:, 0, -1])
            before = places.key_document[:, :-length].amax(1)
        h, c = self.forwards(hidden_states, places.query_document, state, before)
        if cache is not None:
            cache.update(h[:, None], c[:, None], self.layer_idx)
        return self.o_proj(self.forwards.clipped(h)), None

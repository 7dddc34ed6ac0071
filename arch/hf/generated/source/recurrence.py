"""A cell over the tokens of a row: a document begins with the empty state, padding leaves the state as it is."""

import torch
from torch import nn

from .core import make


def choose(condition, yes, no):
    """Row by row one of two tuples of [B, ...]."""
    return tuple(torch.where(condition[:, None], *pair) for pair in zip(yes, no, strict=True))


class StrataRecurrence(nn.Module):
    def __init__(self, part, inputs, hidden, reverse=False, context=None):
        super().__init__()
        self.cell, self.reverse = make(part, inputs, hidden, context), reverse

    def forward(self, hidden_states, document, state=None, before=None, context=None):
        """States [B, T, H] after each token. `state`, `before`: what came before, and of which document; `context`:
        what else the cell reads of each token."""
        gates = self.cell.read(hidden_states)
        gates = gates if context is None else gates + self.cell.more(context)
        empty = self.cell.empty(hidden_states)
        state = empty if state is None else state
        held = torch.zeros_like(document[:, 0]) if before is None else before
        found, places = [], range(document.shape[1])
        for index in reversed(places) if self.reverse else places:
            now = document[:, index]
            new = self.cell(gates[:, index], *choose(held == now, state, empty))
            state, held = choose(now > 0, new, state), torch.where(now > 0, now, held)
            found.append(state)
        found = found[::-1] if self.reverse else found
        return tuple(torch.stack(states, dim=1) for states in zip(*found, strict=True))

    def output(self, h, like, onto=None):
        """What others read of the states, with what it is added `onto`."""
        h = self.cell.output(h, like)
        return self.cell.clipped(h if onto is None else h + onto)

"""The bottom layer of GNMT's decoder (arXiv 1609.08144, sec. 3): an LSTM and the attention that it is bound up with."""

import torch
from torch import nn

from .core import make
from .recurrence import choose


class StrataAttentiveLSTM(nn.Module):
    """`compat`: whether the query is the state before a token ("paper") or after it, and whether layers above read the
    context of the token before ("gnmt")."""

    def __init__(self, part, width, memory):
        super().__init__()
        self.cell, self.compat = make(part["cell"], width, width, memory), part["compat"]
        self.attention = make(part["attention"], width, memory)

    def forward(self, hidden_states, document, memory, key, source, state=None, before=None):
        """States after each token: h, c and the context, and what layers above read as their context. `source`: the
        documents of the memory."""
        gates = self.cell.read(hidden_states)
        empty = (*self.cell.empty(hidden_states), memory.new_zeros(memory.shape[0], memory.shape[-1]))
        state = empty if state is None else state
        held = torch.zeros_like(document[:, 0]) if before is None else before
        found = []
        for index in range(document.shape[1]):
            now = document[:, index]
            *old, context = choose(held == now, state, empty)
            new = self.cell(gates[:, index] + self.cell.more(context), *old)
            query = self.cell.output(old[0] if self.compat == "paper" else new[0], memory)
            after = self.attention(query, key, memory, (source == now[:, None]) & (source > 0))
            shown = context if self.compat == "gnmt" else after
            state, held = choose(now > 0, (*new, after), state), torch.where(now > 0, now, held)
            found.append((*state, shown))
        return tuple(torch.stack(states, dim=1) for states in zip(*found, strict=True))

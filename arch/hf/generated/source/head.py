"""From the last hidden states to logits: the products with the vocabulary's vectors, bounded by a soft cap."""

import torch
from torch import nn


class StrataHead(nn.Module):
    def __init__(self, part, config):
        super().__init__()
        self.softcap = part["softcap"]

    def products(self, hidden_states, lm_head):
        """Logits before the cap."""
        return lm_head(hidden_states)

    def forward(self, hidden_states, lm_head):
        logits = self.products(hidden_states, lm_head).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

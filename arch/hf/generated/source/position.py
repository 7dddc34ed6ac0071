"""Positions: three hooks that do nothing unless a kind says so."""

from torch import nn


class StrataNoPosition(nn.Module):
    def __init__(self, part, width, heads=None):
        super().__init__()

    def embed(self, hidden_states, position_ids):
        """Token embeddings with positions added."""
        return hidden_states

    def rotate(self, states, position_ids):
        """Queries or keys [B, N, T, K], turned by their positions."""
        return states

    def bias(self, query, key):
        """What is added to the scores, [B, N, T, S]; None: nothing. `query` [B, T] and `key` [B, S] are positions."""
        return

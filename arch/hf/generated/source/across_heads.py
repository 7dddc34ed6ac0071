"""QK-norm over all heads together (OLMo 2, arXiv 2501.00656)."""

from torch import nn

from .core import make


class StrataAcrossHeads(nn.Module):
    """Heads [B, T, N, K] side by side; `width` is N K."""

    def __init__(self, part, width, depth=None):
        super().__init__()
        self.norm = make(part["norm"], width, depth)

    def forward(self, hidden_states):
        return self.norm(hidden_states.flatten(-2)).view_as(hidden_states)

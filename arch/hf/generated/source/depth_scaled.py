"""LayerNorm Scaling (arXiv 2502.05795): norm(x) / l^exponent, l = 1..L."""

from torch import nn

from .core import make


class StrataDepthScaled(nn.Module):
    def __init__(self, part, width, depth=None):
        super().__init__()
        self.norm = make(part["norm"], width, depth)
        self.factor = (part["index"] or depth + 1) ** -part["exponent"]

    def forward(self, hidden_states):
        return self.norm(hidden_states) * self.factor

"""Layers one after another, with what stands between them."""

from torch import nn

from .core import make


class StrataSequential(nn.Module):
    def __init__(self, part, config):
        super().__init__()
        self.between = nn.ModuleDict({
            str(after): make(one, config.hidden_size) for after, one in part["between"]
        })  # fmt: skip

    def passed(self, after, hidden_states):
        """The stream behind what stands after so many layers."""
        return self.between[str(after)](hidden_states) if str(after) in self.between else hidden_states

    def forward(self, layers, hidden_states, **kwargs):
        hidden_states = self.passed(0, hidden_states)
        for index, layer in enumerate(layers):
            hidden_states = self.passed(index + 1, layer(hidden_states, **kwargs))
        return hidden_states

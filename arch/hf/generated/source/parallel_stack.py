"""Groups of layers side by side: all of a group read the same stream, and what they write is summed."""

from torch import nn

from .core import make


class StrataParallelStack(nn.Module):
    def __init__(self, part, config):
        super().__init__()
        self.groups, self.scale = part["groups"], part["scale"]
        norm = part["norm"]
        normed = range(0 if norm is None else self.groups)
        self.norm = nn.ModuleList([make(norm, config.hidden_size, group) for group in normed])

    def forward(self, layers, hidden_states, **kwargs):
        size = len(layers) // self.groups
        for group in range(self.groups):
            read = self.norm[group](hidden_states) if len(self.norm) else hidden_states
            branches = layers[group * size : (group + 1) * size]
            writes = sum(layer(read, **kwargs) - read for layer in branches)
            hidden_states = hidden_states + writes * self.scale
        return hidden_states

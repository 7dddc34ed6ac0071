"""Mixers with heads beside softmax attention: the projections, and padding without influence."""

from torch import nn


class StrataHeadMixer(nn.Module):
    """Subclasses mix the heads' states [B, T, N, K]. Tokens meet outside any attention function."""

    mixes = True
    inputs = ("q", "k", "v")

    def __init__(self, part, config, layer_idx):
        super().__init__()
        self.layer_idx, self.heads = layer_idx, part["heads"]
        self.head_dim = part["head_dim"] or config.hidden_size // self.heads
        for name in self.inputs:
            setattr(self, f"{name}_proj", nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=part["bias"]))
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=part["bias"])

    def states(self, name, hidden_states):
        """The heads' view [B, T, N, K] called `name`."""
        return getattr(self, f"{name}_proj")(hidden_states).unflatten(-1, (self.heads, self.head_dim))

    def mix(self, hidden_states, places, cache):
        """What the heads make of the tokens [B, T, N, K]. `places`: where they are, and which are text."""
        raise NotImplementedError

    def forward(self, hidden_states, places, cache=None, **kwargs):
        return self.o_proj(self.mix(hidden_states, places, cache).flatten(2).to(hidden_states.dtype)), None

"""The gated feed-forward (arXiv 2002.05202)."""

from torch import nn
from transformers.activations import ACT2FN


class StrataGatedMLP(nn.Module):
    def __init__(self, part, config, layer_idx=None):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, part["hidden"], bias=part["bias"])
        self.up_proj = nn.Linear(config.hidden_size, part["hidden"], bias=part["bias"])
        self.down_proj = nn.Linear(part["hidden"], config.hidden_size, bias=part["bias"])
        self.act_fn = ACT2FN[part["activation"]]

    def forward(self, hidden_states):
        return self.down_proj(self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))

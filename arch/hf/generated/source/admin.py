"""Admin (arXiv 2004.08249): norm(w * x + f(x)), w learned."""

import torch
from torch import nn

from .post_norm import StrataPostNorm


class StrataAdmin(StrataPostNorm):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.add_beside("omega", lambda: nn.Parameter(torch.ones(config.hidden_size)))
        self.starts = {f"{name}_omega": 1.0 for name in self.names}

    def carried(self, name, hidden_states):
        return self.beside(name, "omega") * hidden_states

"""What sparse autoencoders share: a vector becomes a sum of few directions, each with an amplitude.

Their losses, and what revives directions that are never chosen, are those of training in Strata; here the network's own
loss alone moves them.
"""

import torch
from torch import nn

ROUNDED = {16: torch.bfloat16, 8: torch.float8_e4m3fn}


class StrataSparse(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.k, self.precision = part["k"], part["precision"]
        self.encoder = nn.Parameter(torch.empty(width, part["codes"]))
        self.encoder_bias = nn.Parameter(torch.zeros(part["codes"]))
        self.decoder = nn.Parameter(torch.empty(part["codes"], width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.starts = {"encoder": "normal", "decoder": "normal", "encoder_bias": 0.0, "bias": 0.0}

    def before(self, states):
        return (states - self.bias.float()) @ self.encoder.float() + self.encoder_bias.float()

    def strongest(self, sizes, k):
        """Which `k` are the largest, and their positive parts."""
        ids = sizes.detach().topk(k, dim=-1).indices
        return ids, sizes.gather(-1, ids).relu()

    def chosen(self, states):
        """Which directions a vector has and how much of each, 0 of those that are not there."""
        raise NotImplementedError

    def rounded(self, sizes):
        """As many bits as are kept, with the gradient of all."""
        if self.precision not in ROUNDED:
            return sizes
        kind = ROUNDED[self.precision]
        most, fixed = torch.finfo(kind).max, sizes.detach()
        return fixed.clamp(-most, most).to(kind).float() + (sizes - fixed)

    def forward(self, states):
        ids, sizes = self.chosen(states.float())
        ways = self.decoder.float()
        ways = ways / ways.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        sizes = torch.zeros(*ids.shape[:-1], len(ways), device=ids.device).scatter(-1, ids, self.rounded(sizes))
        return (sizes @ ways + self.bias.float()).to(states.dtype)

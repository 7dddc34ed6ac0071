"""Fixed sines and cosines added to the token embedding (arXiv 1706.03762, section 3.5)."""

import torch

from .position import StrataNoPosition


class StrataSinusoidal(StrataNoPosition):
    def __init__(self, part, width, heads=None):
        super().__init__(part, width)
        self.base = part["base"]

    def embed(self, hidden_states, position_ids):
        half = hidden_states.shape[-1] // 2
        places = torch.arange(half, device=hidden_states.device, dtype=torch.float32)
        angle = position_ids[..., None].float() * self.base ** (-places / half)
        return hidden_states + torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).to(hidden_states.dtype)

"""Rotary positions (arXiv 2104.09864), pairs (i, i + R/2) of the first R dimensions of a head."""

import torch

from .position import StrataNoPosition


class StrataRotary(StrataNoPosition):
    def __init__(self, part, width, heads=None):
        super().__init__(part, width)
        self.base, self.rotated = part["base"], int(width * part["fraction"])

    def rotate(self, states, position_ids):
        half = self.rotated // 2
        wavelengths = self.base ** (torch.arange(half, device=states.device, dtype=torch.float32) / half)
        angle = position_ids[:, None, :, None].float() / wavelengths
        cos, sin = angle.cos().to(states.dtype), angle.sin().to(states.dtype)
        first, second, rest = states.split([half, half, states.shape[-1] - self.rotated], dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)

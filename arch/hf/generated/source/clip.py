"""A bound on what a recurrence holds that stays the same."""

from torch import nn


class StrataConstantClip(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.delta = part["delta"]

    def forward(self):
        return self.delta

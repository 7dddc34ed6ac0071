"""Residual quantisation (SoundStream, arXiv 2107.03312): each stage quantises what the ones before it left."""

from torch import nn

from .core import make
from .nearest import straight_through


class StrataResidual(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.stages = nn.ModuleList([make(part["each"], width) for _ in range(part["stages"])])

    def forward(self, states):
        rest, total = states, states * 0
        for stage in self.stages:
            values = stage(rest).detach()
            rest, total = rest - values, total + values
        return straight_through(states, total)

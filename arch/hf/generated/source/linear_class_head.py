"""The classification head W x + b."""

from torch import nn


class StrataLinearHead(nn.Linear):
    def __init__(self, part, inputs, classes, width):
        super().__init__(inputs, classes)

"""What is done with the rows of the embedding table: they are multiplied by a number."""

from torch import nn


class StrataEmbedding(nn.Module):
    def __init__(self, part, width):
        super().__init__()
        self.scale = 1.0 if part["scale"] is None else part["scale"]

    def forward(self, inputs_embeds):
        return inputs_embeds * self.scale

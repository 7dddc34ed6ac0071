"""A norm behind the embedding (Peri-LN, arXiv 2502.02732)."""

from .core import make
from .embedding import StrataEmbedding


class StrataNormedEmbedding(StrataEmbedding):
    def __init__(self, part, width):
        super().__init__(part, width)
        self.norm = make(part["norm"], width)

    def forward(self, inputs_embeds):
        return self.norm(super().forward(inputs_embeds))

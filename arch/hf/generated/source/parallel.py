"""Parallel sublayers (GPT-J): x + mixer(norm(x)) + feed_forward(norm(x))."""

from .block import StrataBlock
from .core import make


class StrataParallel(StrataBlock):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.norm = make(part["norm"], config.hidden_size, self.depth)

    def residual(self, hidden_states, **kwargs):
        normed = self.norm(hidden_states)
        return hidden_states + sum(self.write(name, normed, **kwargs) for name in self.names)

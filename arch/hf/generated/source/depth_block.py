"""Pre-norm blocks with a factor 1 / l^exponent of the depth l (arXiv 2502.05795)."""

from .pre_norm import StrataPreNorm


class StrataDepthBlock(StrataPreNorm):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.factor = (part["index"] or self.depth + 1) ** -part["exponent"]
        self.scaled = part["scaled"]

    def scale(self, name, hidden_states):
        """`hidden_states` times the factor, if sublayer `name` gets it."""
        return hidden_states * self.factor if name in self.scaled else hidden_states

"""DeepNorm (arXiv 2203.00555): norm(alpha x + f(x))."""

from .post_norm import StrataPostNorm


class StrataDeepNorm(StrataPostNorm):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.alpha = part["alpha"]

    def carried(self, name, hidden_states):
        return self.alpha * hidden_states

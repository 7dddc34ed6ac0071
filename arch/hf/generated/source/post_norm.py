"""Post-norm (arXiv 1706.03762): norm(x + f(x))."""

from .block import StrataBlock


class StrataPostNorm(StrataBlock):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.add_norms(part, config)

    def carried(self, name, hidden_states):
        """The stream as it enters the sum."""
        return hidden_states

    def step(self, name, hidden_states, **kwargs):
        written = self.write(name, hidden_states, **kwargs)
        return self.beside(name, "norm")(self.carried(name, hidden_states) + written)

"""Reordered norm of OLMo 2 (arXiv 2501.00656): x + norm(f(x))."""

from .block import StrataBlock


class StrataReorderedNorm(StrataBlock):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.add_norms(part, config)

    def finish(self, name, written):
        return self.beside(name, "norm")(written)

    def step(self, name, hidden_states, **kwargs):
        return hidden_states + self.write(name, hidden_states, **kwargs)

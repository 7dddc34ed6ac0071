"""Pre-norm (arXiv 2002.04745): x + f(norm(x))."""

from .block import StrataBlock


class StrataPreNorm(StrataBlock):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.add_norms(part, config)

    def step(self, name, hidden_states, **kwargs):
        return hidden_states + self.write(name, self.beside(name, "norm")(hidden_states), **kwargs)

"""Mix-LN (arXiv 2412.13795): the first layers are post-norm, the rest pre-norm."""

from .post_norm import StrataPostNorm


class StrataMixNorm(StrataPostNorm):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.post = self.depth < part["post_layers"]

    def step(self, name, hidden_states, **kwargs):
        if self.post:
            return super().step(name, hidden_states, **kwargs)
        return hidden_states + self.write(name, self.beside(name, "norm")(hidden_states), **kwargs)

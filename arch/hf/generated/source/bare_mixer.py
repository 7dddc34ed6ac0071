"""Pre-norm without a norm before the mixer (ModernBERT's first layer, arXiv 2412.13663)."""

from .block import StrataBlock


class StrataBareMixer(StrataBlock):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.add_norms(part, config, skip=("mixer",))

    def step(self, name, hidden_states, **kwargs):
        normed = hidden_states if name == "mixer" else self.beside(name, "norm")(hidden_states)
        return hidden_states + self.write(name, normed, **kwargs)

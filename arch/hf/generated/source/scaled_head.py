"""A head that scales what it reads (T5, arXiv 1910.10683)."""

from .head import StrataHead


class StrataScaledHead(StrataHead):
    def __init__(self, part, config):
        super().__init__(part, config)
        self.scale = part["scale"]

    def products(self, hidden_states, lm_head):
        return lm_head(hidden_states * self.scale)

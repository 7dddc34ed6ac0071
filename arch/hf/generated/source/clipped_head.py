"""A head whose logits are clipped (arXiv 1609.08144, eq. 13)."""

from .core import make
from .head import StrataHead


class StrataClippedHead(StrataHead):
    def __init__(self, part, config):
        super().__init__(part, config)
        self.head, self.gamma = make(part["head"], config), part["gamma"]

    def products(self, hidden_states, lm_head):
        return self.head(hidden_states, lm_head).clamp(-self.gamma, self.gamma)

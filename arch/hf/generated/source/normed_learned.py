"""BERT's input: a norm over the token embedding and the position together."""

from .core import make
from .learned import StrataLearned


class StrataNormedLearned(StrataLearned):
    def __init__(self, part, width, heads=None):
        super().__init__(part, width)
        self.norm = make(part["norm"], width)

    def embed(self, hidden_states, position_ids):
        return self.norm(super().embed(hidden_states, position_ids))

"""k-sparse autoencoders: the k largest of each vector (arXiv 2406.04093)."""

from .sparse import StrataSparse


class StrataTopK(StrataSparse):
    def chosen(self, states):
        return self.strongest(self.before(states), self.k)

"""elu(x) + 1 (arXiv 2006.16236, eq. 7)."""

from torch import nn


class StrataEluPlusOne(nn.Module):
    def __init__(self, part, head_dim):
        super().__init__()

    def query(self, states):
        return nn.functional.elu(states.float()) + 1.0

    def key(self, states, visible, whole):
        """Features of keys; `whole`: all of a row are seen together."""
        return self.query(states)

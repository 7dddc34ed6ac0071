"""Sandwich norm (arXiv 2105.13290; Peri-LN, arXiv 2502.02732): x + norm(f(norm(x)))."""

from .pre_norm import StrataPreNorm


class StrataSandwichNorm(StrataPreNorm):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.add_norms(part, config, "out_norm")

    def finish(self, name, written):
        return self.beside(name, "out_norm")(written)

"""(x + f(norm(x))) / l^exponent (arXiv 2502.05795)."""

from .depth_block import StrataDepthBlock


class StrataScaledResidual(StrataDepthBlock):
    def step(self, name, hidden_states, **kwargs):
        return self.scale(name, super().step(name, hidden_states, **kwargs))

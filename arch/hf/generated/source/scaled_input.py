"""x + f(norm(x / l^exponent)) (arXiv 2502.05795)."""

from .depth_block import StrataDepthBlock


class StrataScaledInput(StrataDepthBlock):
    def step(self, name, hidden_states, **kwargs):
        normed = self.beside(name, "norm")(self.scale(name, hidden_states))
        return hidden_states + self.write(name, normed, **kwargs)

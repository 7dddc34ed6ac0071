"""x + f(norm(x) / l^exponent), LayerNorm Scaling (arXiv 2502.05795)."""

from .depth_block import StrataDepthBlock


class StrataScaledNorm(StrataDepthBlock):
    def step(self, name, hidden_states, **kwargs):
        normed = self.scale(name, self.beside(name, "norm")(hidden_states))
        return hidden_states + self.write(name, normed, **kwargs)

"""x + f(norm(x)) / l^exponent (arXiv 2502.05795)."""

from .depth_block import StrataDepthBlock


class StrataScaledSublayer(StrataDepthBlock):
    def finish(self, name, written):
        return self.scale(name, written)

"""norm(x / l^exponent): the factor before the norm (arXiv 2502.05795)."""

from .depth_scaled import StrataDepthScaled


class StrataDepthScaledInput(StrataDepthScaled):
    def forward(self, hidden_states):
        return self.norm(hidden_states * self.factor)

"""The vector of a row: the mean over the text."""


class StrataMeanPooling:
    def __init__(self, part):
        pass

    def __call__(self, hidden_states, visible):
        """[B, D] of [B, T, D] and of which tokens are text [B, T]; zeros where none is."""
        weights = visible.to(hidden_states.dtype)[:, :, None]
        return (hidden_states * weights).sum(1) / weights.sum(1).clamp(min=1)

"""Linear maps to fewer numbers than a vector has and back, or none where there are as many."""

from torch import nn


class StrataProjected(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        if inner != width:
            self.to_levels, self.from_levels = nn.Linear(width, inner), nn.Linear(inner, width)

    def down(self, states):
        return (self.to_levels(states) if hasattr(self, "to_levels") else states).float()

    def up(self, numbers, states):
        """In the type of `states`."""
        numbers = numbers.to(states.dtype)
        return self.from_levels(numbers) if hasattr(self, "from_levels") else numbers

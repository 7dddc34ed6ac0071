"""A bound on what a recurrence holds that falls while it is trained (arXiv 1609.08144, sec. 6).

Here it stays where the last update in Strata left it.
"""

import torch
from torch import nn


class StrataAnnealedClip(nn.Module):
    starts = {"updates": 0.0}  # noqa: RUF012

    def __init__(self, part):
        super().__init__()
        self.start, self.end, self.steps = part["start"], part["end"], part["steps"]
        self.register_buffer("updates", torch.zeros(()))

    def forward(self):
        done = (self.updates.float() / self.steps).clamp(max=1.0)
        return self.start + (self.end - self.start) * done

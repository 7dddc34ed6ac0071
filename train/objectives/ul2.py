"""UL2 (arXiv 2205.05131, section 3.1.2 and table 1): a mixture of denoisers, one drawn for each row by its key.

R hides short spans as T5 does, S the end of the text (a prefix language model), X much of it or long spans. The source
begins with a token of its mode, [R], [S] or [X].
"""

from __future__ import annotations

import dataclasses

from arch.spec import Problem
from train.objectives.span_corruption import Denoiser, Denoising

MIXTURE = (
    Denoiser(0.15, 3.0, "R"),
    Denoiser(0.15, 8.0, "R"),
    Denoiser(0.25, None, "S"),
    Denoiser(0.5, 3.0, "X"),
    Denoiser(0.5, 8.0, "X"),
    Denoiser(0.15, 64.0, "X"),
    Denoiser(0.5, 64.0, "X"),
)
"""The seven denoisers of table 1, in equal shares."""


@dataclasses.dataclass(frozen=True)
class UL2(Denoising):
    """Denoisers in equal shares, all with a mode or none; one that is named twice is twice as likely."""

    denoisers: tuple[Denoiser, ...] = MIXTURE

    def problems(self):
        yield from super().problems()
        if len({one.mode is None for one in self.denoisers}) != 1:
            yield Problem("denoisers", self.denoisers, "must be some, and all have a mode or none")

    @property
    def mixture(self):
        return self.denoisers

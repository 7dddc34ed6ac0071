"""Bottlenecks: what a stream of vectors has to pass through between the sections of a stack."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from arch.params import Maker
from arch.spec import Spec


@dataclasses.dataclass(frozen=True)
class Bottleneck(Spec, abc.ABC):
    """A part called `bottleneck(x, ctx) -> x` of the same shape; its losses, metrics and statistics go to
    `ctx.answer`."""

    @abc.abstractmethod
    def build(self, width: int, make: Maker) -> Any:
        """The part for vectors of `width`, an `nnx.Module`."""

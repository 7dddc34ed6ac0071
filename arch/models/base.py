"""Models: whole networks, from the arrays of a batch to an answer."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from flax import nnx

from arch.spec import Spec


@dataclasses.dataclass(frozen=True)
class Model(Spec, abc.ABC):
    """A network. What it is called with and what it answers is between it and the objective that trains it."""

    @abc.abstractmethod
    def build(self, *, rngs: nnx.Rngs) -> Any:
        """The module with float32 parameters drawn from `rngs.params()`; each carries `axes`, `initializer`, `role`."""

"""Another draw of the same initialiser, for A/A studies: arms that are equal in distribution and in nothing else.

    W = init(fold_in(key, draw))        where `init` alone is init(key)

The key of a weight holds the seed of the run and its path, so two arms of a study that share a part share its first
weights (arch/params.py). Their data come in the same order too. Under `Reseeded` one arm keeps the data and the order
and draws its weights anew. Buffers that start at random take their key from the `ParamFactory` and stay as they were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax

from arch.layers.init.initializers import Initializer, Normal
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Reseeded(Initializer):
    """`base`, with numbers that are independent of those it draws by itself, and of those of every other `draw`."""

    base: Initializer = Normal()
    draw: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "draw")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return self.base(jax.random.fold_in(key, self.draw), shape, role=role, fan_in=fan_in, depth=depth, layer=layer)

    def describe(self, role: str) -> str:
        return f"Reseeded({self.base.describe(role)}, {self.draw})"

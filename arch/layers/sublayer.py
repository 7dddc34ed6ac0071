"""Sublayers: the named parts of a block, each of which reads the residual stream and writes into it."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from arch.params import ParamFactory
from arch.spec import Spec


@dataclasses.dataclass(frozen=True)
class Sublayer(Spec, abc.ABC):
    """A part called `sublayer(x, ctx) -> Result`.

    `causal` says whether a token's output may depend on later tokens: True: never; False: it does; None: the part does
    not say, and what needs a causal model looks at the model itself.
    """

    @property
    def causal(self) -> bool | None:
        return None

    @property
    def reads_prefix(self) -> bool:
        """Whether every token may see the whole prefix of its document (`ctx.key_prefix`); true of parts that move
        nothing between tokens."""
        return True

    @abc.abstractmethod
    def build(self, width: int, make: ParamFactory) -> Any:
        """The part for a model of `width`, an `nnx.Module` with `__call__(x_BTD, ctx)`.

        One that remembers between calls has `init_cache(room) -> LayerCache` as well (`layers.caches`).
        """


@dataclasses.dataclass(frozen=True)
class Mixer(Sublayer, abc.ABC):
    """A sublayer that moves information between tokens."""

    @property
    def reads_prefix(self) -> bool:
        return False  # unless it says so


@dataclasses.dataclass(frozen=True)
class FeedForward(Sublayer, abc.ABC):
    """A sublayer that treats each token by itself."""

    @property
    def causal(self) -> bool | None:
        return True

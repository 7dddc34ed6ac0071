"""Who may attend to whom, as a pure rule on positions. Segments and padding are handled by attention itself."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from arch.layers.shapes import Known
from arch.spec import Problem, Spec, at_least

MASKED = -1e30
"""Score of an invisible key: finite, so that a row of padding that sees nothing stays finite."""

TRIED = 1024

Span = tuple[int | None, int | None]
"""How many tokens before and after itself a token sees; None: all."""


@dataclasses.dataclass(frozen=True)
class Mask(Spec, abc.ABC):
    """A rule `allowed(query position, key position)` within one document."""

    @property
    def span(self) -> Span | None:
        """The rule as a span, where it is one: what fused kernels take. None: only `allowed` tells."""
        return None

    @property
    def causal(self) -> bool:
        """Whether no token sees a later one: by the span, else by the rule itself on the first `TRIED` positions."""
        if self.span is not None:
            return self.span[1] == 0
        places = np.arange(TRIED, dtype=np.int32)
        seen = self.allowed(places[:, None], places[None])
        return seen is not None and not bool(np.triu(np.broadcast_to(np.asarray(seen), (TRIED, TRIED)), 1).any())

    @abc.abstractmethod
    def allowed(self, query: Int[Known, "..."], key: Int[Known, "..."]) -> Bool[Known, "..."] | None:
        """Whether `query` may see `key`, broadcast; None where everything is allowed."""


@dataclasses.dataclass(frozen=True)
class Causal(Mask):
    """A token sees itself and what came before."""

    @property
    def span(self):
        return (None, 0)

    def allowed(self, query, key):
        return key <= query


@dataclasses.dataclass(frozen=True)
class Bidirectional(Mask):
    """A token sees its whole document."""

    @property
    def span(self):
        return (None, None)

    def allowed(self, query, key):
        return None


@dataclasses.dataclass(frozen=True)
class SlidingWindow(Mask):
    """A token sees itself and the `window - 1` tokens before it (Mistral, arXiv 2310.06825; as in Transformers)."""

    window: int = 128

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "window")

    @property
    def span(self):
        return (self.window - 1, 0)

    def allowed(self, query, key):
        return (key <= query) & (key > query - self.window)


@dataclasses.dataclass(frozen=True)
class LocalWindow(Mask):
    """A token sees the tokens at most `radius` away on either side (Longformer's local attention, arXiv 2004.05150)."""

    radius: int = 64

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "radius")

    @property
    def span(self):
        return (self.radius, self.radius)

    def allowed(self, query, key):
        return (key <= query + self.radius) & (key >= query - self.radius)

"""Dropout rates by sublayer, for models that drop what one sublayer writes and not what another does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from arch.spec import Problem, Spec


@dataclasses.dataclass(frozen=True)
class DropoutBy(Spec):
    """`DropoutBy((("mixer", 0.1),))`: what `mixer` writes is dropped at 0.1; sublayers without a rate drop nothing."""

    rates: tuple[tuple[str, float], ...]

    def problems(self) -> Iterator[Problem]:
        named = [name for name, _ in self.rates]
        for name, rate in self.rates:
            if named.count(name) > 1:
                yield Problem("rates", name, "must be named once")
            if not 0 <= rate <= 0.999:
                yield Problem("rates", rate, f"must be between 0 and 0.999, for {name}")

    def rate(self, name: str) -> float:
        """The rate of sublayer `name`."""
        return dict(self.rates).get(name, 0.0)

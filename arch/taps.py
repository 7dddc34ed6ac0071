"""Taps: looking at and touching the activations of a forward pass, through one explicit argument.

A model is handed `Tap(save="resid_.*", edit={"attn.z": fn})`. Parts call `ctx.tap(site, x)` at their named sites;
the call returns `x`, edited if asked. Stacks hand each layer a recorder of its own and return what it recorded as
results of the scanned body, so saved values are `(layer, ...)` whether scanned, unrolled or rematerialised.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax

Edit = Callable[[jax.Array, Any], jax.Array]
"""`fn(x, layer) -> x`; `layer` is the 0-based index (traced under scan), or None at sites outside the stack."""


class NoTap:
    """Does nothing; the default. The compiled program is the one without taps."""

    def __call__(self, site: str, x: jax.Array) -> jax.Array:
        return x

    def wants(self, site: str) -> bool:
        return False

    def at(self, layer: Any) -> NoTap:
        return self

    def collect(self) -> dict[str, jax.Array]:
        return {}

    def check(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Tap:
    """What to save and what to change.

    Attributes:
      save: regular expression; sites it matches in full are saved.
      edit: site -> `fn(x, layer) -> x`, applied before saving.
    """

    save: str = ""
    edit: Mapping[str, Edit] = dataclasses.field(default_factory=dict)

    def recorder(self) -> Recorder:
        """A fresh recorder for one forward pass."""
        return Recorder(self, None, set())


class Recorder:
    """Applies a `Tap` within one trace. `visited` is shared by all layers of the pass."""

    def __init__(self, tap: Tap, layer: Any, visited: set[str]):
        self.tap, self.layer, self.visited = tap, layer, visited
        self.saved: dict[str, jax.Array] = {}

    def __call__(self, site: str, x: jax.Array) -> jax.Array:
        self.visited.add(site)
        if site in self.tap.edit:
            x = self.tap.edit[site](x, self.layer)
        if re.fullmatch(self.tap.save, site):
            self.saved[site] = x
        return x

    def wants(self, site: str) -> bool:
        """Whether a value that is not needed otherwise has to be computed for this tap; the model has such a site."""
        self.visited.add(site)
        return site in self.tap.edit or re.fullmatch(self.tap.save, site) is not None

    def at(self, layer: Any) -> Recorder:
        """The recorder of one layer."""
        return Recorder(self.tap, layer, self.visited)

    def collect(self) -> dict[str, jax.Array]:
        """What was saved since the last call."""
        saved, self.saved = self.saved, {}
        return saved

    def check(self) -> None:
        """Refuses a tap that named a site which this model does not have.

        Raises:
          ValueError: an edit or the save pattern matched none of the sites; lists them.
        """
        unknown = [site for site in self.tap.edit if site not in self.visited]
        if self.tap.save and not any(re.fullmatch(self.tap.save, site) for site in self.visited):
            unknown.append(self.tap.save)
        if unknown:
            raise ValueError(f"no tap site {', '.join(unknown)}; this model has {', '.join(sorted(self.visited))}")

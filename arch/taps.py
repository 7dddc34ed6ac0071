"""Taps: looking at and touching the activations of a forward pass, through one explicit argument.

A model takes `Tap(save="resid_.*", edit={"attn.z": fn})`. Parts call `ctx.tap(site, x)` at their named sites;
the call returns `x`, edited where the tap says so. Stacks give each layer a recorder of its own and return what it
recorded as results of the scanned body, so saved values are `(layer, ...)` whether scanned, unrolled or rematerialised.

Sites are scoped by part where there are several of a kind: a sublayer called `cross` has the sites `cross.attn.q`, the
two stacks of a pair `encoder.attn_out` and `decoder.attn_out`. A site that is visited twice is an error.
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

    def scope(self, name: str) -> NoTap:
        return self

    def adopt(self, saved: Mapping[str, Any]) -> None:
        pass

    def collect(self) -> dict[str, Any]:
        return {}

    def check(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Tap:
    """What to save and what to change.

    Attributes:
      save: regular expression; sites it matches in full are saved.
      edit: site -> `fn(x, layer) -> x`, applied before saving.
      strict: whether a site that the model does not have is an error.
    """

    save: str = ""
    edit: Mapping[str, Edit] = dataclasses.field(default_factory=dict)
    strict: bool = True

    def recorder(self) -> Recorder:
        """A fresh recorder for one forward pass."""
        return Recorder(self, None, {})


class Recorder:
    """Applies a `Tap` within one trace. `sites` are those of the whole pass, shared by all layers, in the order they
    were first met."""

    def __init__(self, tap: Tap, layer: Any, sites: dict[str, None], prefix: str = ""):
        self.tap, self.layer, self.sites, self.prefix = tap, layer, sites, prefix
        self.saved: dict[str, Any] = {}
        self.met: set[str] = set()

    def __call__(self, site: str, x: jax.Array) -> jax.Array:
        site = self.prefix + site
        if site in self.met:
            raise ValueError(f"tap site {site} is visited twice in one call; call the part with a scope of its own: "
                             "ctx.scope(name)")  # fmt: skip
        self.met.add(site)
        self.sites.setdefault(site)
        if site in self.tap.edit:
            x = self.tap.edit[site](x, self.layer)
        if re.fullmatch(self.tap.save, site):
            self.saved[site] = x
        return x

    def wants(self, site: str) -> bool:
        """Whether a value that is not needed otherwise has to be computed for this tap; the model has such a site."""
        site = self.prefix + site
        self.sites.setdefault(site)
        return site in self.tap.edit or re.fullmatch(self.tap.save, site) is not None

    def at(self, layer: Any) -> Recorder:
        """The recorder of one layer."""
        return Recorder(self.tap, layer, self.sites, self.prefix)

    def scope(self, name: str) -> Recorder:
        """This recorder for a part whose sites are called `NAME.SITE`."""
        inner = Recorder(self.tap, self.layer, self.sites, f"{self.prefix}{name}.")
        inner.saved, inner.met = self.saved, self.met
        return inner

    def adopt(self, saved: Mapping[str, Any]) -> None:
        """Takes over what recorders of layers have saved, under full names."""
        twice = self.saved.keys() & saved.keys()
        if twice:
            raise ValueError(f"tap site {', '.join(sorted(twice))} is visited twice in one call; give the stacks "
                             "scopes of their own: ctx.scope(name)")  # fmt: skip
        self.saved.update(saved)

    def collect(self) -> dict[str, Any]:
        """What was saved since the last call."""
        saved = dict(self.saved)
        self.saved.clear()
        return saved

    def check(self) -> None:
        """Refuses a tap that named a site which this model does not have.

        Raises:
          ValueError: an edit or the save pattern matched none of the sites; lists them.
        """
        if not self.tap.strict:
            return
        unknown = [site for site in self.tap.edit if site not in self.sites]
        if self.tap.save and not any(re.fullmatch(self.tap.save, site) for site in self.sites):
            unknown.append(self.tap.save)
        if unknown:
            raise ValueError(f"no tap site {', '.join(unknown)}; this model has {', '.join(sorted(self.sites))}")

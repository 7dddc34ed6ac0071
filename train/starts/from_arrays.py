"""A start from arrays in memory, for runs that go on from a model that no folder holds: one replica, or part of one."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from train.record.identity import digest, text
from train.starts.start import KINDS, Start


@dataclasses.dataclass(frozen=True)
class FromArrays(Start):
    """Parameters and buffers that are there already.

    Attributes:
      held: "params" and "buffers" -> path in the new model -> array.
      called: what they are of, for the parameter table.
    """

    held: Mapping[str, Mapping[str, np.ndarray]]
    called: str = "memory"

    @classmethod
    def of(cls, state: Mapping[str, Any], take: str = "", called: str = "memory") -> FromArrays:
        """The arrays of `state`, trees by kind, whose path the regular expression `take` finds; all by default."""
        held = {}
        for kind in KINDS:
            leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(state[kind]))
            paths = {".".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in leaves}
            held[kind] = {path: leaf for path, leaf in paths.items() if re.search(take, path)}
        return cls(held, called)

    @functools.cached_property
    def content(self) -> str:
        """A name of the arrays and their paths."""
        return digest([text(self.held)])

    def digest(self):
        return self.content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FromArrays) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)

    def origins(self):
        return {path: f"{self.called} {path}" for kind in KINDS for path in self.held.get(kind, {})}

    def arrays(self):
        return {kind: self.held.get(kind, {}) for kind in KINDS}

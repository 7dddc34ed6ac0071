"""How a model is written, and what finds it: the contract of tiers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from arch.hf.family import Facts, Planned
from arch.models.base import Model
from arch.params import Tree


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model is written.

    Attributes:
      tier: the name of the tier that took it.
      reason: why, in one line.
      config: the contents of `config.json`, without the type of the numbers.
      tensors: in the order of the file.
      files: name -> text of further files (code).
    """

    tier: str
    reason: str
    config: Mapping[str, Any]
    tensors: Sequence[Planned]
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Tier(Protocol):
    """One way of writing models."""

    name: str

    def plan(self, model: Model, params: Tree, facts: Facts) -> Plan:
        """The plan for `model`. Raises UnfitError with what stands against it, in one line."""

"""The frozen models beside the one that is trained, as a pass sees them: graphs, and arrays as arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from arch.cost import abstract
from arch.params import merge, split

KINDS = ("params", "buffers")

Arrays = Mapping[str, Mapping[str, Any]]
"""Name of a model -> its "params" and "buffers"."""


@dataclasses.dataclass(frozen=True)
class Graphs:
    """The frozen models of an objective without their arrays. `len` tells how many there are."""

    graphdefs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.graphdefs)

    def models(self, arrays: Arrays) -> dict[str, Any]:
        """Name -> the `Network` with its arrays."""
        return {name: merge(graph, *(arrays[name][kind] for kind in KINDS)) for name, graph in self.graphdefs.items()}


def graphs(models: Mapping[str, Any]) -> tuple[Graphs, Arrays]:
    """The models (`train.starts.frozen.Pretrained`) without arrays, and their arrays in shapes, float32."""
    parts = {name: split(abstract(one.model)) for name, one in models.items()}
    shapes = {name: dict(zip(KINDS, arrays, strict=True)) for name, (_, *arrays) in parts.items()}
    return Graphs({name: graph for name, (graph, *_) in parts.items()}), shapes

"""The twin of a part in PyTorch, as the part describes it.

A part of your own brings its twin as an attribute `hf` of its spec:

    class ScaleNorm(Norm):
        hf: ClassVar = Twin("MyScaleNorm", SOURCE)      # SOURCE: PyTorch text with `class MyScaleNorm(nn.Module)`

A norm is made as `MyScaleNorm(part, width, depth)` and called `norm(x)`, a feed-forward as `(part, config, layer_idx)`
and called `mlp(x)`; `part` holds the fields of the spec. See the files in `source/` for the other kinds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Fields = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Twin:
    """A class of PyTorch that computes what a part does.

    Attributes:
      name: of the class.
      source: a file of `source/`, or the text of one.
      tell: (spec, teller, where its arrays are) -> the fields of its part of the configuration; None: those of the
        spec.
      arrays: name of an array of ours in the part -> its name there; others are renamed by the rules of `names`.
      constants: (spec, teller, where) -> name -> array that the twin keeps and that is no parameter here.
      caches: of a mixer, whether it goes on from a cache.
      alone: of a mixer, whether tokens meet in the attention function alone, as servers have it.
      splits: of a block: a layer, which no device may share with another.
    """

    name: str
    source: str
    tell: Callable[[Any, Any, str], Fields] | None = None
    arrays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Callable[[Any, Any, str], Mapping[str, np.ndarray]] | None = None
    caches: bool = True
    alone: bool = False
    splits: bool = False

"""What a model is made of, as its configuration says it, and the twins that are used for that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from arch.hf.family import UnfitError
from arch.hf.generated.table import TWINS, WITHOUT
from arch.hf.generated.telling import bias
from arch.hf.generated.twin import Fields, Twin
from arch.hf.settings import THEIRS
from arch.spec import Spec

HOW = "has no twin in PyTorch; a class of your own brings one as `hf = Twin(name, source)` (arch.hf.generated.twin)"


@dataclasses.dataclass
class Teller:
    """Tells parts, and keeps what it used.

    Attributes:
      width: of the stream.
      depth: L that layers count in.
      heads: of the first layer's mixer; None: it has none.
      biased: whether the positions of the model are a bias on scores.
      window: of the layers with a sliding window that Transformers keeps the cache of.
      causal: whether the model is.
      softcaps: bounds of scores.
      kinds: kind -> its twin.
      masks: masks that Transformers makes.
      head_dim, at_heads: of the mixer that is told.
      memory: width of what cross-attention reads.
    """

    width: int
    depth: int
    heads: int | None
    biased: bool
    window: int | None
    causal: bool
    memory: int | None = None
    head_dim: int = 0
    at_heads: int = 0
    softcaps: set[float] = dataclasses.field(default_factory=set)
    kinds: dict[str, Twin] = dataclasses.field(default_factory=dict)
    masks: dict[str, Fields] = dataclasses.field(default_factory=dict)
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    arrays: dict[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def tell(self, spec: Any, at: str = "", kind: str = "") -> Fields:
        """The part of the configuration for `spec`, whose arrays are below `at`.

        Raises UnfitError: a part without a twin.
        """
        twin, kind = twin_of(spec, kind), kind or name_of(type(spec)).rpartition(":")[2].rpartition(".")[2]
        if self.kinds.setdefault(kind, twin) != twin:
            raise UnfitError(f"{kind}: two parts of this name; give yours another")
        if twin.arrays:
            self.arrays[at] = twin.arrays
        if twin.constants is not None:
            self.constants |= {f"{at}.{name}": value for name, value in twin.constants(spec, self, at).items()}
        fields = twin.tell(spec, self, at) if twin.tell is not None else self.fields(spec, at)
        return {"kind": kind, **fields}

    def fields(self, spec: Spec, at: str, *without: str) -> Fields:
        """The fields of a spec, parts among them told, a linear map as its `bias`."""
        found: Fields = {}
        for field in dataclasses.fields(spec):
            value = getattr(spec, field.name)
            if field.name in without:
                continue
            if field.name == "linear":
                found["bias"] = bias(value)
            elif field.name == "activation":
                found[field.name] = THEIRS[value]
            elif isinstance(value, Spec):
                found[field.name] = self.tell(value, f"{at}.{field.name}")
            else:
                found[field.name] = value
        return found


def twin_of(spec: Any, kind: str = "") -> Twin:
    """The twin of a part. Raises UnfitError with why it has none."""
    own = type(spec).__dict__.get("hf")
    if isinstance(own, Twin):
        return own
    found = TWINS.get(kind or name_of(type(spec)))
    if found is None:
        raise UnfitError(without(spec))
    return found


def without(spec: Any) -> str:
    """Why a part has no twin, in one line."""
    return f"{type(spec).__name__} {WITHOUT.get(name_of(type(spec)), HOW)}"


def name_of(cls: type) -> str:
    """The name of a part in the tables: that of its class, for those that are Strata's own."""
    if cls.__module__.partition(".")[0] != "arch":
        return f"{cls.__module__}:{cls.__qualname__}"
    return f"{cls.__name__}Bottleneck" if cls.__module__.startswith("arch.bottlenecks.") else cls.__name__

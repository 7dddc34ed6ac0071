"""What objectives that give a prefix need of a model."""

from __future__ import annotations

from collections.abc import Iterator

from arch.models.base import Model
from arch.models.trunk import PREFIX_READERS, Trunk, prefix_blind
from arch.spec import SpecError


def without_prefixes(model: Model) -> Iterator[SpecError]:
    """An error if a mixer of `model` does not let all tokens see a prefix."""
    if isinstance(model, Trunk) and (blind := prefix_blind(model)):
        yield model.invalid("block", f"must know of prefixes, which {blind} does not; {PREFIX_READERS}")

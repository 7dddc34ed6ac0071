"""What all parts rest on."""

from typing import Any

from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""The name of the cache in arguments and outputs; Transformers 5.2x changed it."""


def make(part: dict[str, Any], *sizes: Any) -> nn.Module:
    """The module of a part of the configuration."""
    return PARTS[part["kind"]](part, *sizes)

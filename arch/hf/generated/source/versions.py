"""What older releases of Transformers 5 call by another name, back to 5.0."""

import inspect

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .core import CACHE

try:
    from transformers.utils.generic import merge_with_config_defaults
    from transformers.utils.output_capturing import capture_outputs
except ImportError:  # one decorator did both
    from transformers.utils.generic import check_model_inputs

    capture_outputs = check_model_inputs

    def merge_with_config_defaults(forward):
        return forward


if not hasattr(ALL_ATTENTION_FUNCTIONS, "get_interface"):
    type(ALL_ATTENTION_FUNCTIONS).get_interface = lambda self, name, default: self.get(name, default)


def standard_mask(create, config, inputs_embeds, attention_mask, cache=None, position_ids=None, **more):
    """The mask that Transformers' `create` makes, told what it asks for."""
    known, length = inspect.signature(create).parameters, inputs_embeds.shape[1]
    told = {"attention_mask": attention_mask, "position_ids": position_ids, CACHE: cache}
    told["inputs_embeds" if "inputs_embeds" in known else "input_embeds"] = inputs_embeds
    if "cache_position" in known and known["cache_position"].default is inspect.Parameter.empty:
        seen = 0 if cache is None else cache.get_seq_length()
        told["cache_position"] = torch.arange(seen, seen + length, device=inputs_embeds.device)
    return create(config=config, **{name: value for name, value in told.items() if name in known}, **more)

"""A token sees itself and the `window - 1` tokens before it (arXiv 2310.06825)."""

from transformers.masking_utils import create_sliding_window_causal_mask

from .core import CACHE


class StrataSlidingWindow:
    def __init__(self, part):
        self.window = part["window"]

    def allowed(self, query, key):
        return (key <= query) & (key > query - self.window)

    def standard(self, config, inputs_embeds, attention_mask, cache, position_ids):
        told = {"attention_mask": attention_mask, "position_ids": position_ids, CACHE: cache}
        return create_sliding_window_causal_mask(config=config, inputs_embeds=inputs_embeds, **told)

"""A token sees itself and the `window - 1` tokens before it (arXiv 2310.06825)."""

from transformers.masking_utils import create_sliding_window_causal_mask

from .versions import standard_mask


class StrataSlidingWindow:
    def __init__(self, part):
        self.window = part["window"]

    def allowed(self, query, key):
        return (key <= query) & (key > query - self.window)

    def standard(self, config, inputs_embeds, attention_mask, cache, position_ids):
        return standard_mask(
            create_sliding_window_causal_mask, config, inputs_embeds, attention_mask, cache, position_ids
        )

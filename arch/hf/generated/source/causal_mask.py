"""A token sees itself and what came before."""

from transformers.masking_utils import create_causal_mask

from .versions import standard_mask


class StrataCausal:
    def __init__(self, part):
        pass

    def allowed(self, query, key):
        """Whether the token at place `query` sees that at `key`; both broadcast."""
        return key <= query

    def standard(self, config, inputs_embeds, attention_mask, cache, position_ids):
        """The mask that suits the attention function of the configuration."""
        return standard_mask(create_causal_mask, config, inputs_embeds, attention_mask, cache, position_ids)

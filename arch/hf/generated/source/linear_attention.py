"""Linear attention (arXiv 2006.16236): sums of features times values in the place of softmax."""

import torch

from .core import make
from .head_mixer import StrataHeadMixer


def divide(top, bottom):
    """top / bottom; zero for queries that see nothing."""
    return top / torch.where(bottom > 0, bottom, 1.0)[..., None]


class StrataLinearAttention(StrataHeadMixer):
    """The causal form keeps the features and values of all tokens as keys and values of its cache."""

    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.features, self.causal = make(part["features"], self.head_dim), part["causal"]

    def mix(self, hidden_states, places, cache):
        text = places.query_document > 0
        query = self.features.query(self.states("q", hidden_states))
        key = self.features.key(self.states("k", hidden_states), text, not self.causal) * text[:, :, None, None]
        value = self.states("v", hidden_states).float() * text[:, :, None, None]
        if not self.causal:
            top = torch.einsum("btnr,bnrk->btnk", query, torch.einsum("bsnr,bsnk->bnrk", key, value))
            return divide(top, torch.einsum("btnr,bnr->btn", query, key.sum(1)))
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        seen = places.same & (places.key[:, None, :] <= places.query[:, :, None])
        weights = (query.transpose(1, 2) @ key.transpose(2, 3)) * seen[:, None]
        return divide((weights @ value).transpose(1, 2), weights.sum(-1).transpose(1, 2))

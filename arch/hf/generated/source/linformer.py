"""Linformer (arXiv 2006.04768): attention to learned mixtures of the tokens of a row."""

import torch
from torch import nn

from .head_mixer import StrataHeadMixer


class StrataLinformer(StrataHeadMixer):
    starts = {"mix_k": "normal", "mix_v": "normal"}  # noqa: RUF012

    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.mix_k = nn.Parameter(torch.empty(part["length"], part["rank"]))
        self.mix_v = nn.Parameter(torch.empty(part["length"], part["rank"]))

    def mix(self, hidden_states, places, cache):
        length = hidden_states.shape[1]
        text = (places.query_document > 0)[:, :, None, None]
        query = self.states("q", hidden_states)
        key = torch.einsum("btnk,tr->brnk", self.states("k", hidden_states) * text, self.mix_k[:length])
        value = torch.einsum("btnk,tr->brnk", self.states("v", hidden_states) * text, self.mix_v[:length])
        scores = torch.einsum("btnk,brnk->bntr", query, key) * self.head_dim**-0.5
        return torch.einsum("bntr,brnk->btnk", scores.softmax(-1, dtype=torch.float32).to(value.dtype), value)

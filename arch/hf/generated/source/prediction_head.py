"""The prediction head of BERT (arXiv 1810.04805): norm(activation(h W)) E^T + b."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .core import make
from .head import StrataHead


class StrataPredictionHead(StrataHead):
    starts = {"bias": 0.0}  # noqa: RUF012

    def __init__(self, part, config):
        super().__init__(part, config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=part["dense_bias"])
        self.act_fn = ACT2FN[part["activation"]]
        self.norm = make(part["norm"], config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def products(self, hidden_states, lm_head):
        return lm_head(self.norm(self.act_fn(self.dense(hidden_states)))) + self.bias

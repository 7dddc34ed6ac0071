"""Synthesizers (arXiv 2005.00743): attention patterns that no query and key make."""

import torch

from .head_mixer import StrataHeadMixer


class StrataSynthesizer(StrataHeadMixer):
    def scores(self, hidden_states):
        """The score of every pair [1 or B, N, T, T]."""
        raise NotImplementedError

    def mix(self, hidden_states, places, cache):
        text = (places.query_document > 0)[:, None, None, :]
        scores = self.scores(hidden_states).float()
        weights = torch.where(text, scores, torch.finfo(torch.float32).min).softmax(-1).to(hidden_states.dtype)
        return torch.einsum("bnts,bsnk->btnk", weights, self.states("v", hidden_states))

"""Which rows of a codebook are most similar to a vector."""

import torch


def nearest(states, codes, metric, k):
    """The `k` most similar codes of each vector, the most similar first; no gradient goes through a choice."""
    with torch.no_grad():
        states, codes = states.float(), codes.float()
        if metric == "cosine":
            scores = states @ (codes / codes.norm(dim=-1, keepdim=True).clamp(min=1e-12)).T
        else:
            scores = states @ codes.T - 0.5 * codes.square().sum(-1)
        return scores.topk(k, dim=-1).indices


def straight_through(states, values):
    """`values`, with the gradient of `states` too (arXiv 1308.3432)."""
    return values.to(states.dtype) + (states - states.detach())

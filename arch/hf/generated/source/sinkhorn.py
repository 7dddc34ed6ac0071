"""Sparse Sinkhorn attention (arXiv 2002.11296): attention within blocks and to blocks that a net sorts there."""

import torch
from torch import nn

from .head_mixer import StrataHeadMixer

TINY = 1e-9  # a place with less text than that has none


def sinkhorn(scores, iterations):
    """exp(scores) with rows and columns normalised in turn."""
    for _ in range(iterations):
        scores = scores - scores.logsumexp(-1, keepdim=True)
        scores = scores - scores.logsumexp(-2, keepdim=True)
    return scores.exp()


class StrataSinkhorn(StrataHeadMixer):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        self.block, self.iterations, self.temperature = part["block"], part["iterations"], part["temperature"]
        self.sort = nn.Linear(config.hidden_size, self.heads * -(-part["length"] // self.block), bias=False)

    def cut(self, x):
        """[B, T, ...] as [B, U, S, ...], filled up with zeros."""
        x = torch.cat([x, x.new_zeros(x.shape[0], -x.shape[1] % self.block, *x.shape[2:])], dim=1)
        return x.unflatten(1, (-1, self.block))

    def order(self, blocks, text):
        """[B, N, U, U]: how much of each block (last axis) goes to each place."""
        count = blocks.shape[1]
        scores = self.sort(blocks.sum(2)).unflatten(-1, (self.heads, -1))[..., :count].permute(0, 2, 3, 1).float()
        alike = text[:, None, :, None] == text[:, None, None, :]
        return sinkhorn(torch.where(alike, scores / self.temperature, -1e30), self.iterations)

    def mix(self, hidden_states, places, cache):
        there = self.cut(places.query_document > 0)
        text = there[..., None, None].to(hidden_states.dtype)
        query = self.cut(self.states("q", hidden_states))
        key = self.cut(self.states("k", hidden_states)) * text
        value = self.cut(self.states("v", hidden_states)) * text
        order = self.order(self.cut(hidden_states) * text[..., 0], there.any(2))
        sort = order.to(hidden_states.dtype)
        key_sorted = torch.einsum("bnuw,bwsnk->busnk", sort, key)
        value_sorted = torch.einsum("bnuw,bwsnk->busnk", sort, value)
        mass = torch.einsum("bnuw,bws->bnus", order, there.float()) / order.sum(-1, keepdim=True)
        full = mass.clamp(min=TINY)[:, :, :, None, :]
        scale = self.head_dim**-0.5
        own = torch.einsum("butnk,busnk->bnuts", query, key).float() * scale
        own = torch.where(there[:, None, :, None, :], own, -1e30)
        moved = torch.einsum("butnk,busnk->bnuts", query, key_sorted).float() * scale / full + full.log()
        moved = torch.where((mass > TINY)[:, :, :, None, :], moved, -1e30)
        weights_own, weights_moved = torch.cat([own, moved], dim=-1).softmax(-1).chunk(2, dim=-1)
        mixed = torch.einsum("bnuts,busnk->butnk", weights_own.to(value.dtype), value)
        mixed = mixed + torch.einsum("bnuts,busnk->butnk", (weights_moved / full).to(value.dtype), value_sorted)
        return mixed.flatten(1, 2)[:, : hidden_states.shape[1]]

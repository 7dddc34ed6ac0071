"""Blocks of tokens: neighbours, random others, and the first, which see and are seen by all (arXiv 2007.14062)."""

import torch


class StrataBigBird:
    def __init__(self, part):
        self.block, self.first, self.drawn = part["block"], part["global_blocks"], part["drawn"]

    def allowed(self, query, key):
        query, key = query // self.block, key // self.block
        table = torch.zeros(len(self.drawn) + 1, len(self.drawn) + 1, dtype=torch.bool, device=query.device)
        for row, columns in enumerate(self.drawn):
            table[row, columns] = True
        drawn = table[query.clamp(max=len(self.drawn)), key.clamp(max=len(self.drawn))]
        return ((query - key).abs() <= 1) | (query < self.first) | (key < self.first) | drawn

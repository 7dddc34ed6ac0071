"""Sparse attention patterns as masks: BigBird, Longformer, strided, and the intersection of two masks.

They are rules on positions: softmax attention under them is exactly the published pattern, computed in the dense form.
What they save on long rows is therefore not time here; which information can flow is what a study varies.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from arch.layers.attention.masks import Bidirectional, Causal, Mask
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Longformer(Mask):
    """A window of `radius` on either side, and `global_tokens` first tokens that see all and are seen by all.

    arXiv 2004.05150, section 3.1, without projections of their own for the global tokens.
    """

    radius: int = 64
    global_tokens: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "radius", "global_tokens")

    def allowed(self, query, key):
        near = (key <= query + self.radius) & (key >= query - self.radius)
        return near | (query < self.global_tokens) | (key < self.global_tokens)


@dataclasses.dataclass(frozen=True)
class BigBird(Mask):
    """Blocks of tokens: the neighbours, `random` others, and the first `global_blocks`, which see and are seen by all.

    arXiv 2007.14062, section 2 (internal global blocks, window of three). The random blocks of each block are drawn
    once from `seed`, among those of a row of `length` that it does not see anyway; blocks past `length` have none.
    """

    block: int = 64
    random: int = 3
    global_blocks: int = 1
    length: int = 1024
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "block", "length")
        yield from at_least(self, 0, "random", "global_blocks", "seed")

    def allowed(self, query, key):
        query, key = query // self.block, key // self.block
        near = (key <= query + 1) & (key >= query - 1)
        everywhere = (query < self.global_blocks) | (key < self.global_blocks)
        table = _random_blocks(-(-self.length // self.block), self.random, self.global_blocks, self.seed)
        known = isinstance(query, np.ndarray) and isinstance(key, np.ndarray)
        last = len(table) - 1  # its row and column are empty, for all that lies past the length
        drawn = (table if known else jnp.asarray(table))[query.clip(0, last), key.clip(0, last)]
        return near | everywhere | drawn


@functools.cache
def _random_blocks(blocks: int, count: int, first: int, seed: int) -> np.ndarray:
    """bool [blocks + 1, blocks + 1]: the random blocks (columns) of each block (rows); the last of both is empty."""
    table = np.zeros((blocks + 1, blocks + 1), bool)
    for block in range(first, blocks):
        rng = np.random.default_rng((seed, block))
        others = np.array([j for j in range(first, blocks) if abs(j - block) > 1], int)
        table[block, rng.permutation(others)[:count]] = True
    return table


@dataclasses.dataclass(frozen=True)
class Strided(Mask):
    """The tokens less than `stride` away, and those a multiple of `stride` away (arXiv 1904.10509, section 4.2).

    Both heads of the paper's pattern as one, on either side; `Both(Causal(), Strided())` is the paper's causal form.
    """

    stride: int = 128

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "stride")

    def allowed(self, query, key):
        apart = query - key
        return ((apart < self.stride) & (apart > -self.stride)) | (apart % self.stride == 0)


@dataclasses.dataclass(frozen=True)
class Both(Mask):
    """What `first` and `second` both allow."""

    first: Mask = Causal()
    second: Mask = Bidirectional()

    def allowed(self, query, key):
        first, second = self.first.allowed(query, key), self.second.allowed(query, key)
        if first is None or second is None:
            return second if first is None else first
        return first & second

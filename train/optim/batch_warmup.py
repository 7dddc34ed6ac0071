"""Batch-size warm-up in tokens: an update reads more rows the more tokens were read (Ettin, arXiv 2507.11412).

A step is compiled for its whole batch, cut into micro-batches, of which an update takes the first k: those that it
does not take are not computed. k rises by one each time another 1 / (most - first) of the warm-up's tokens were read,
so that the batch is linear in the tokens.

    Run(accumulate=BatchWarmup(most=8, tokens=3e9, micro_tokens=64 * 1024), batch=512, ...)

What it costs: the rows of micro-batches that are not taken are read from the data and passed over; the micro-batches
must be fine enough for the first batch; reported speed and FLOPs are those of whole steps until it ends.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from arch.spec import Problem, Spec, above, at_least


@dataclasses.dataclass(frozen=True)
class BatchWarmup(Spec):
    """How many micro-batches an update takes.

    Attributes:
      most: micro-batches of a whole step.
      tokens: length of the warm-up.
      micro_tokens: tokens of a micro-batch, its rows times their length.
      first: micro-batches of the first update.
    """

    most: int
    tokens: float
    micro_tokens: int
    first: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "most", "micro_tokens", "first")
        yield from above(self, 0, "tokens")
        if self.first > self.most:
            yield Problem("first", self.first, f"must not be above most={self.most}")

    @property
    def step_tokens(self) -> int:
        """Of a whole step."""
        return self.most * self.micro_tokens

    def updates(self) -> list[int]:
        """How many updates take `first` micro-batches, how many one more, ... up to one less than `most`."""
        counts, read = [], 0
        for taken in range(self.first, self.most):
            end = self.tokens * (taken + 1 - self.first) / (self.most - self.first)
            counts.append(max(0, math.ceil((end - read) / (taken * self.micro_tokens))))
            read += counts[-1] * taken * self.micro_tokens
        return counts

    def taken(self, index: jax.typing.ArrayLike) -> jax.Array:
        """How many micro-batches the update with this index takes, int32."""
        ends = np.cumsum(np.asarray(self.updates(), np.int64)).astype(np.int32)
        stage = jnp.searchsorted(jnp.asarray(ends), jnp.asarray(index, jnp.int32), side="right")
        return stage.astype(jnp.int32) + jnp.int32(self.first)

    def steps_read(self, updates: jax.Array) -> jax.Array:
        """What so many updates (float32) have read, in whole steps."""
        read, before = jnp.zeros_like(updates), 0
        for taken, count in zip(range(self.first, self.most), self.updates(), strict=True):
            read = read + jnp.clip(updates - before, 0.0, count) * (taken / self.most)
            before += count
        return read + jnp.maximum(updates - before, 0.0)

    def updates_for(self, tokens: float) -> int:
        """How many updates read `tokens`, at least."""
        total = 0
        for taken, count in zip(range(self.first, self.most), self.updates(), strict=True):
            if tokens <= taken * self.micro_tokens * count:
                return total + math.ceil(tokens / (taken * self.micro_tokens))
            total, tokens = total + count, tokens - taken * self.micro_tokens * count
        return total + math.ceil(tokens / self.step_tokens)

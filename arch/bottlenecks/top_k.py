"""k-sparse autoencoders: of each vector's amplitudes the k largest stay.

    TopK        the k largest of each vector                     (arXiv 2406.04093, section 2.3)
    BatchTopK   the k n largest of the n vectors of a batch      (arXiv 2412.06410, section 3)

`TopK` revives dead codes as its paper does: `auxiliary` * |e - e'|^2 with e = x - y and e' made of the dead codes' own
largest amplitudes (section 2.4). A code is dead by its running count (`bottlenecks.usage`). `BatchTopK` keeps a running
mean of the smallest amplitude that stayed, from the first step's on; not training, all above it stay, so that a vector
does not depend on others. That is the same on any number of devices, but not for any number of micro-batches: each is a
batch of its own, with its own k n amplitudes, and the running mean takes the mean of their smallest ones, by how many
vectors each has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.bottlenecks import usage
from arch.bottlenecks.sparse import Sparse, SparseLayer, rounded, strongest
from arch.params import ParamFactory
from arch.sharding import couple_rows
from arch.spec import Problem, at_least, between


@dataclasses.dataclass(frozen=True)
class TopK(Sparse):
    """The `k` largest of each vector. `auxiliary`: weight of the loss that revives dead codes."""

    auxiliary: float = 1 / 32

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 0, "auxiliary")

    def build(self, width, make):
        return TopKLayer(self, width, make)


class TopKLayer(SparseLayer):
    def __init__(self, spec: TopK, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.auxiliary, self.dead_k = spec.auxiliary, min(spec.codes, max(1, width // 2))

    def chosen(self, x, weights, training):
        return strongest(self.before(x), self.k)

    def further(self, x, y, weights):
        gone = usage.dead(self.counts[...])
        z = self.before(x)
        ids, amplitudes = strongest(jnp.where(gone.reshape((1,) * (z.ndim - 1) + (-1,)) > 0, z, -1.0), self.dead_k)
        # Without the bias: it is made up to add to y, which has it.
        more = self.made(ids, amplitudes) - self.bias[...].reshape((1,) * (z.ndim - 1) + (-1,))
        loss = usage.apart(jax.lax.stop_gradient(x - y), more, weights, self.auxiliary)
        return {"auxiliary": dataclasses.replace(loss, total=loss.total * jnp.max(gone))}


@dataclasses.dataclass(frozen=True)
class BatchTopK(Sparse):
    """On average the `k` largest.

    Attributes:
      decay: of the running mean of the smallest amplitude that stayed.
      most: how many codes of a vector are reported; None: all C. What is not among them does not go on.
    """

    decay: float = 0.99
    most: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from between(self, 0, 1, "decay")
        if self.most is not None and not self.k <= self.most <= self.codes:
            yield Problem("most", self.most, f"must be from k={self.k} to codes={self.codes}")

    def build(self, width, make):
        return BatchTopKLayer(self, width, make)


class BatchTopKLayer(SparseLayer):
    def __init__(self, spec: BatchTopK, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.decay, self.most = spec.decay, spec.most or spec.codes
        self.threshold = make.buffer([], 0.0)

    def chosen(self, x, weights, training):
        z = jax.nn.relu(self.before(x))
        ids, amplitudes = strongest(z, self.most)
        least = self.threshold[...]
        if training:
            couple_rows()
            fixed = jax.lax.stop_gradient(z if weights is None else z * weights[..., None]).reshape(-1)
            number = jnp.asarray(z[..., 0].size, jnp.float32) if weights is None else jnp.sum(weights)
            place = jnp.clip(self.k * number.astype(jnp.int32), 1, fixed.size) - 1
            least = jnp.sort(fixed, descending=True)[place]
        # The running mean is of amplitudes that were reported.
        sizes = amplitudes if training else rounded(amplitudes, self.precision)
        return ids, jnp.where(sizes >= jnp.maximum(least, 1e-30), amplitudes, jnp.zeros(()))

    def statistics(self, ids, sizes, active, there):
        stayed = jnp.min(jnp.where(active > 0, sizes, jnp.inf))
        some = jnp.isfinite(stayed)
        number = jnp.where(some, jnp.sum(there), 0.0)
        found = super().statistics(ids, sizes, active, there)
        return {**found, "least": jax.lax.stop_gradient(jnp.where(some, stayed, 0.0) * number), "number": number}

    def advance(self, buffers, sums):
        new = sums["least"] / jnp.maximum(sums["number"], 1.0)
        old = buffers["threshold"]
        moved = jnp.where(old > 0, usage.moved(old, new, self.decay), new)  # no mean with the 0 that it starts as
        threshold = jnp.where(sums["number"] > 0, moved, old)
        return {**super().advance(buffers, sums), "threshold": threshold}

"""Keys of a key-value bottleneck: C heads of P vectors each, learned without labels or gradients, or fixed.

`EmaKeys` moves every key to the running mean of the vectors that chose it (VQ-VAE, arXiv 1711.00937, appendix A.1):

    N <- g N + (1 - g) n,   M <- g M + (1 - g) s,   K = M / N

with n how many vectors of a batch chose the key and s their sum. A key is dead whose N is below `dead` of the mean N of
its head. Every step the dead keys take over halves of live ones (Linde, Buzo and Gray 1980): the k-th dead key gets
half of what the live key with the k-th largest squared error has, and goes one standard deviation away from its mean,
in a direction of its own. All this is computed from sums over rows, so that devices and micro-batches change nothing.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.context import Context
from arch.params import ParamFactory
from arch.spec import Problem, Spec, between


@dataclasses.dataclass(frozen=True)
class Keys(Spec, abc.ABC):
    """Base of the kinds of keys. All have one buffer `table`, [C, P, K], which one kind may take over from another."""

    @abc.abstractmethod
    def build(self, heads: int, pairs: int, width: int, make: ParamFactory) -> Any:
        """The keys: `keys.note(h [N, C, K], ids [N, C], ctx)` takes vectors and the keys that they chose."""


@dataclasses.dataclass(frozen=True)
class FixedKeys(Keys):
    """Keys that stay as they are: drawn from N(0, 1), or taken from a run that learned them (`FromRun`)."""

    def build(self, heads, pairs, width, make):
        return FixedKeysLayer(heads, pairs, width, make)


class FixedKeysLayer(nnx.Module):
    def __init__(self, heads: int, pairs: int, width: int, make: ParamFactory):
        sizes = [(heads, None), (pairs, "codes"), (width, None)]
        start = jax.random.normal(make.at("table").key, (heads, pairs, width))
        self.table = make.buffer(sizes, start, "normal(1)", role="codebook")

    def note(self, h_NCK: Float[Array, "N C K"], ids_NC: Int[Array, "N C"], ctx: Context) -> None:
        """Nothing is learned."""


@dataclasses.dataclass(frozen=True)
class EmaKeys(Keys):
    """Keys that follow the vectors that choose them, in training steps.

    Attributes:
      decay: g; 0 makes every step one of Lloyd's on its batch.
      dead: share of the mean N of a head below which a key is dead; 0: none ever is.
    """

    decay: float = 0.9
    dead: float = 0.1

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "dead")
        if not 0 <= self.decay < 1:
            yield Problem("decay", self.decay, "must be from 0 to below 1")

    def build(self, heads, pairs, width, make):
        return EmaKeysLayer(self, heads, pairs, width, make)


class EmaKeysLayer(FixedKeysLayer):
    """Buffers beside the table: `counts` N and `squares`, the running sum of squared lengths, [C, P], and `sums` M."""

    def __init__(self, spec: EmaKeys, heads: int, pairs: int, width: int, make: ParamFactory):
        super().__init__(heads, pairs, width, make)
        self.decay, self.dead = spec.decay, spec.dead
        table, sizes = self.table[...], [(heads, None), (pairs, "codes"), (width, None)]
        self.counts = make.buffer(sizes[:2], 1.0)
        self.sums = make.buffer(sizes, table, "normal(1)", role="codebook")
        self.squares = make.buffer(sizes[:2], jnp.sum(jnp.square(table), axis=-1), "squares of the table")

    def note(self, h_NCK: Float[Array, "N C K"], ids_NC: Int[Array, "N C"], ctx: Context) -> None:
        """Notes the sums over vectors that `advance` takes."""
        h_NCK = jax.lax.stop_gradient(h_NCK.astype(jnp.float32))
        pairs = self.table.shape[1]

        def of_head(h_NK: jax.Array, ids_N: jax.Array) -> dict[str, jax.Array]:
            add = lambda values: jax.ops.segment_sum(values, ids_N, pairs)  # noqa: E731
            squares = jnp.sum(jnp.square(h_NK), axis=-1)
            return {"counts": add(jnp.ones_like(squares)), "sums": add(h_NK), "squares": add(squares)}

        ctx.answer(self, statistics=jax.vmap(of_head, in_axes=1)(h_NCK, ids_NC))

    def advance(self, buffers: Mapping[str, jax.Array], sums: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The buffers after a step; each head by itself."""
        running = {name: self.decay * buffers[name] + (1 - self.decay) * sums[name] for name in sums}
        return jax.vmap(self._moved)(buffers["table"], running)

    def _moved(self, table_PK: jax.Array, running: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        counts, sums, squares = running["counts"], running["sums"], running["squares"]
        chosen = counts > 0
        table_PK = jnp.where(chosen[:, None], sums / jnp.where(chosen, counts, 1.0)[:, None], table_PK)
        error = jnp.maximum(squares - counts * jnp.sum(jnp.square(table_PK), axis=-1), 0.0)  # N times the variance
        dead = counts < self.dead * jnp.mean(counts)
        order = jnp.argsort(jnp.where(dead, -1.0, error), descending=True)  # live keys, the largest error first
        from_P = order[jnp.clip(jnp.cumsum(dead) - 1, 0)]
        taken = dead & ~dead[from_P] & (error[from_P] > 0)
        gave = jnp.zeros_like(taken).at[jnp.where(taken, from_P, len(taken))].set(True, mode="drop")
        spread = jnp.sqrt(error[from_P] / jnp.where(chosen[from_P], counts[from_P], 1.0) / table_PK.shape[1])
        away = jax.random.normal(jax.random.key(0), table_PK.shape)
        table_PK = jnp.where(taken[:, None], table_PK[from_P] + spread[:, None] * away, table_PK)
        halves = {"counts": counts, "sums": sums, "squares": squares}
        halves = {name: jnp.where(_along(gave, one), one / 2, one) for name, one in halves.items()}
        counts = jnp.where(taken, halves["counts"][from_P], halves["counts"])
        sums = jnp.where(taken[:, None], counts[:, None] * table_PK, halves["sums"])
        squares = jnp.where(taken, counts * jnp.sum(jnp.square(table_PK), axis=-1), halves["squares"])
        return {"table": table_PK, "counts": counts, "sums": sums, "squares": squares}


def _along(which_P: jax.Array, like: jax.Array) -> jax.Array:
    return which_P.reshape(-1, *(1,) * (like.ndim - 1))

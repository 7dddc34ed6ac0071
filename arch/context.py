"""Context of a call: inputs of a part other than the residual stream, and its results other than its output."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arch.answers import Answer, Answers, Sum
from arch.taps import NoTap, Recorder


@jax.tree_util.register_pytree_node_class
class Gates(Mapping[str, Any]):
    """Gates on what a layer writes, by name: "block" for all of it, a sublayer, the site of a bottleneck.

    `Gates(block=..., mixer=...)`; a gate is per layer `[L]` or per position `[L, B, T]`. Booleans choose exactly (a
    skipped layer is the identity, a kept one is untouched); floats scale. In a layer's context the leading L is gone.
    Skipping a layer, pruning it and a closed gate are this one thing. A gate that is not there adds nothing to the
    program.
    """

    __eq__, __hash__ = object.__eq__, object.__hash__  # by identity: gates may be traced

    def __init__(self, gates: Mapping[str, Any] | None = None, /, **more: Any):
        given = {**(gates or {}), **more}
        self._gates = {name: given[name] for name in sorted(given) if given[name] is not None}

    def __getitem__(self, name: str) -> Any:
        return self._gates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._gates)

    def __len__(self) -> int:
        return len(self._gates)

    def __repr__(self) -> str:
        return f"Gates({', '.join(f'{name}={gate!r}' for name, gate in self._gates.items())})"

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        return tuple(self._gates.values()), tuple(self._gates)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], gates: tuple[Any, ...]) -> Gates:
        new = cls.__new__(cls)
        new._gates = dict(zip(names, gates, strict=True))
        return new


class Memory(NamedTuple):
    """What cross-attention reads: an encoder's output, an image's features.

    Attributes:
      x: [B, S, D].
      segments: int32 [B, S], 0 for padding; None: no padding.
      positions: int32 [1 or B, S].
    """

    x: jax.Array
    segments: jax.Array | None
    positions: jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Context:
    """The surroundings of a call. Frozen; stacks and blocks hand down narrowed copies.

    Attributes:
      positions: int32 [1 or B, T], position of each token in its document; a numpy array where known while tracing.
      segments: int32 [B, T], document of each token, 0 for padding; None: one document, no padding.
      key_positions, key_segments: the same for the S places attended to; equal to the above without a cache.
      key_prefix: bool [B, S], which of those places are of a prefix, which its whole document sees; None: none.
      coordinates: int32 [1 or B, T, A], where each token is along A axes (row and column of an image's patch), for
        positions of more than one axis; None: `positions` is all there is. Masks go by `positions`.
      index: int32 [B], the place in the cache where each row's T tokens are written; None without a cache.
      cache: this part's own cache, from `init_cache`; None without.
      bias: float [1 or B, N, T, S] added to attention scores, from a position part shared by all layers.
      layer: 0-based index of this layer; traced under scan.
      training: whether this is a training step: dropout drops, running statistics are those of the batch.
      key: PRNG key of this call; None: nothing is random. Not only training has one.
      gates: of this layer.
      memory: what cross-attention reads; None: nothing, or it is in the cache already.
      tap: called as `tap(site, x)` at named sites.
      answers: where `answer` notes what parts answer.
      last: of how many last tokens of each row logits are computed; None: of all.
    """

    positions: jax.Array | np.ndarray
    segments: jax.Array | None
    key_positions: jax.Array | np.ndarray
    key_segments: jax.Array | None
    key_prefix: jax.Array | None = None
    coordinates: jax.Array | np.ndarray | None = None
    index: Any = None
    cache: Any = None
    bias: jax.Array | None = None
    layer: int | jax.Array = 0
    training: bool = False
    key: jax.Array | None = None
    gates: Gates = Gates()
    memory: Memory | None = None
    tap: NoTap | Recorder = dataclasses.field(default_factory=NoTap)
    answers: Answers = dataclasses.field(default_factory=Answers)
    last: int | None = None

    def replace(self, **changes: Any) -> Context:
        return dataclasses.replace(self, **changes)

    def scope(self, name: str) -> Context:
        """The context of a part called `name` beside others of its kind: its own tap sites and random key."""
        return self.replace(tap=self.tap.scope(name), key=named_key(self.key, name))

    def asked(self, x_BTD: jax.Array) -> jax.Array:
        """The hidden states of the tokens whose logits are computed: what a causal model's head reads."""
        return x_BTD if self.last is None else x_BTD[:, -self.last :]

    @property
    def dropout_key(self) -> jax.Array | None:
        """The key of what is dropped while training; None: nothing is."""
        return self.key if self.training else None

    def answer(
        self,
        part: Any,
        *,
        losses: Mapping[str, Sum] | None = None,
        metrics: Mapping[str, Sum] | None = None,
        statistics: Any = None,
    ) -> None:
        """Notes the results of `part`, the module that calls this (`self`), other than its output.

        Args:
          part: the module.
          losses: name -> what the training step adds to the objective's loss, as total / weight.
          metrics: name -> what is reported beside the objective's metrics.
          statistics: tree of sums over rows that `part.advance(buffers, sums)` takes.
        """
        self.answers.add(part, Answer(losses or {}, metrics or {}, {} if statistics is None else {"": statistics}))


class Result(NamedTuple):
    """What a sublayer, block or stack returns.

    Attributes:
      x: the output.
      cache: its cache after this call, in the structure it was given; None without.
    """

    x: jax.Array
    cache: Any = None


def named_key(key: jax.Array | None, name: str) -> jax.Array | None:
    """The key of the part called `name` below one that has `key`."""
    return None if key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))


def gate(gates: Any, new: jax.Array, old: jax.Array | float) -> jax.Array:
    """`new` where kept, `old` where not. `gates` is None, scalar or [B, T]; boolean (exact) or float (mixing)."""
    if gates is None:
        return new
    gates = jnp.asarray(gates)
    gates = gates.reshape(gates.shape + (1,) * (new.ndim - gates.ndim)) if gates.ndim else gates
    if gates.dtype == jnp.bool_:
        return jnp.where(gates, new, jnp.asarray(old, new.dtype))
    gates = gates.astype(new.dtype)
    return gates * new + (1 - gates) * old


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout; the identity without a key (`ctx.dropout_key`) or at rate 0."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros((), x.dtype))

"""The contract of all models: what they can do, what they take, and what they return.

A spec's type says what it can do: `Causal` (each token's logits depend on what came before it alone: it generates),
`Bidirectional` (logits of every token from the whole row), `Seq2Seq` (a causal model of a target, given a
source), `Classification` (one set of logits a row), `Tagging` (one set of logits a token), `TextEmbedding` (one vector
a row). What needs one of them demands it by that type.

A model is called `model(inputs, ...) -> Output` with an `Inputs` record, whatever it reads.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from arch.answers import Answers, Sum, by_name
from arch.context import Context, Gates
from arch.layers.caches import Room, layer_caches
from arch.purity import unchanged
from arch.spec import Spec, UserError
from arch.taps import NoTap, Tap


@dataclasses.dataclass(frozen=True)
class Model(Spec, abc.ABC):
    """A network."""

    @abc.abstractmethod
    def build(self, *, rngs: nnx.Rngs) -> Any:
        """The `Network` with float32 parameters drawn from `rngs.params()`."""


class Causal:
    """Logits [B, T, V] of each token from it and those before; has `init_cache`, and goes on from a cache."""


class Bidirectional:
    """Logits [B, T, V] of each token from the whole row."""


class Seq2Seq(Causal):
    """A causal model of a target whose `Inputs` have a `source`; with a cache, the source is read by the first call."""


class Classification:
    """Logits [B, classes] of each row."""


class Tagging:
    """Logits [B, T, classes] of each token: what it is, not which token it is."""


class TextEmbedding:
    """One vector a text in place of logits: [B, 1, D] of rows, [B, 2, D] of pairs of rows."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a model reads. Every field is an array, the shape of one, or None; a model says which it needs
    (`Network.reads`).

    Attributes:
      tokens: int32 [B, T].
      positions: int32 [1 or B, T], position of each token in its document; None: counting from 0 or from the cache.
      segments: int32 [B, T], document of each token, 0 for padding; None: one document without padding.
      coordinates: int32 [1 or B, T, A], for positions of more than one axis.
      images: float [B, ...].
      source: what the encoder of a pair reads; None: nothing, or it was read already.
      second: the other row of a pair of rows.
      prefix: bool [B, T], the tokens that all tokens of their document may see, also those before them (prefix language
        models, arXiv 1910.10683, section 3.2.1); None: none. With a cache, a prefix is given by one call.
    """

    tokens: Any = None
    positions: Any = None
    segments: Any = None
    coordinates: Any = None
    images: Any = None
    source: Inputs | None = None
    second: Inputs | None = None
    prefix: Any = None

    @property
    def present(self) -> list[str]:
        """The names of the fields that are there."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """What a causal model remembers between calls. Made by `init_cache`, an argument and a result of each call.

    Attributes:
      layers: the caches of all layers, trees of `LayerCache`s with arrays `[L, B, ...]`.
      positions: int32 [B, S], position of each remembered token.
      segments: int32 [B, S], its document; 0: nothing there.
      index: int32 [B], how many tokens each row holds: where its next one goes.
      memory: whatever else the model keeps by row, [B, ...], such as the padding of an encoder's output.
      prefix: bool [B, S], which of them are of a prefix; None: none was given yet.
    """

    layers: Any
    positions: jax.Array
    segments: jax.Array
    index: jax.Array
    memory: Any = None
    prefix: jax.Array | None = None

    @classmethod
    def empty(cls, layers: Any, room: Room, memory: Any = None) -> Cache:
        """The cache before the first token."""
        nothing = jnp.zeros((room.batch, room.length), jnp.int32)
        return cls(layers, nothing, nothing, jnp.zeros((room.batch,), jnp.int32), memory)

    def rewound(self, index: jax.Array) -> Cache:
        """The cache as it was when row b held `index[b]` tokens. Raises UserError for parts that cannot go back."""
        there = jnp.arange(self.segments.shape[1], dtype=jnp.int32)[None] < index[:, None]
        segments = jnp.where(there, self.segments, jnp.zeros((), jnp.int32))
        layers = layer_caches(self.layers, lambda one: one.rewound(index))
        return dataclasses.replace(self, layers=layers, segments=segments, index=index)

    def reordered(self, rows: jax.Array) -> Cache:
        """Row b becomes what row `rows[b]` was: beams that went on from others."""
        take = lambda leaf: jnp.take(leaf, rows, axis=0)  # noqa: E731
        layers = jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=1), self.layers)
        rest = jax.tree.map(take, (self.positions, self.segments, self.index, self.memory, self.prefix))
        return Cache(layers, *rest)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output:
    """What a call of a model returns.

    Attributes:
      logits: float32 [B, T, V], [B, classes], or [B, T, classes]; of a `TextEmbedding` the vectors.
      cache: the cache after these tokens; None without one.
      hidden: the last hidden states [B, T, D] that the head read; None: the model has none to show.
      losses: name -> what the training step adds to the objective's loss.
      metrics: name -> what is reported beside the objective's metrics.
      statistics: path of a part with buffers -> sums for its `advance`.
      taps: site -> saved value, `(layer, ...)` for sites inside the stack.
    """

    logits: jax.Array
    cache: Cache | None = None
    hidden: jax.Array | None = None
    losses: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    taps: dict[str, Any] = dataclasses.field(default_factory=dict)


class Network(nnx.Module, abc.ABC):
    """Base of the modules that models build. A subclass defines `forward`; `reads` names the inputs it takes."""

    reads: tuple[str, ...] = ("tokens", "positions", "segments")
    limit: int | None = None
    """How many positions the model knows; None: no bound."""

    def apart(self, cache: Cache) -> Cache:
        """The cache in the form that is changed in place token by token on a CPU; the same where there is no other."""
        return cache

    @abc.abstractmethod
    def forward(self, inputs: Inputs, ctx: Context, cache: Cache | None) -> Output:
        """The output for `inputs`.

        `ctx` holds the other arguments of a call (training, key, gates, tap, answers), and no positions yet.
        """

    def __call__(
        self,
        inputs: Inputs,
        *,
        cache: Cache | None = None,
        training: bool = False,
        key: jax.Array | None = None,
        gates: Gates = Gates(),
        tap: Tap | None = None,
        last: int | None = None,
    ) -> Output:
        """Runs the network.

        Args:
          inputs: what it reads.
          cache: what came before; the output holds the cache after these tokens.
          training: whether this is a training step.
          key: of whatever is random; None: nothing is, dropout neither.
          gates: per layer (see `Gates`).
          tap: what to save or edit on the way (see `Tap`).
          last: of a causal model, how many last tokens of each row logits are wanted of; None: all. A head over a
            large vocabulary costs as much as a layer or several, and of a prompt one token's are needed.

        Raises:
          UserError: `inputs` lacks something or has something that this model does not read; a cache or gates for a
            model that has none.
          ValueError: `tap` names a site that this model does not have, or there are more tokens than positions.
        """
        if not isinstance(inputs, Inputs):
            raise UserError(f"{type(self).__name__} is called with Inputs(tokens=...), not a {type(inputs).__name__}")
        strange = [name for name in inputs.present if name not in self.reads]
        if strange or self.reads[0] not in inputs.present:
            raise UserError(f"{type(self).__name__} reads {', '.join(self.reads)}; it was given "
                            f"{', '.join(inputs.present) or 'nothing'}")  # fmt: skip
        recorder, answers = NoTap() if tap is None else tap.recorder(), Answers()
        ctx = context(training=training, key=key, gates=gates, tap=recorder, answers=answers, last=last)
        with unchanged(self):
            out = self.forward(inputs, ctx, cache)
        if cache is not None and out.cache is None:
            raise UserError(f"{type(self).__name__} was called with a cache and does not go on from one")
        if gates and not any(hasattr(part, "stack") for _, part in nnx.iter_graph(self)):
            raise UserError(f"{type(self).__name__} has no stack of layers, so that there is nothing to gate")
        recorder.check()
        answer = answers.collect(self)
        return dataclasses.replace(
            out,
            losses=by_name(answer.losses),
            metrics=by_name(answer.metrics),
            statistics=answer.statistics,
            taps={**out.taps, **recorder.collect()},
        )

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32, snapshots: int = 0) -> Cache:
        """An empty cache for `batch` rows of at most `length` tokens, which can go back `snapshots` tokens.

        Raises:
          UserError: the model does not go on from a cache.
        """
        raise UserError(f"{type(self).__name__} has no cache: it cannot generate token by token")


def context(**told: Any) -> Context:
    """A context that knows no positions yet."""
    nothing = jnp.zeros((1, 0), jnp.int32)
    return Context(nothing, None, nothing, None, **told)

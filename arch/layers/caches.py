"""What layers remember between calls, of four kinds; rewound and reordered by row.

`Growing`    one entry a token: the keys and values of self-attention
`Window`     the entries of the last tokens alone: attention that looks back no further
`Fixed`      entries made once: the keys and values of cross-attention
`Recurrent`  a state that every token replaces: an LSTM's, linear attention's

Each is a tree of arrays with the rows of the batch first, [B, ...]; inside a stack they have a leading axis of layers.
Entries of tokens lie with the tokens on the last axis but one, [B, H, S, K] where a layer speaks of [B, S, H, K]: a
step's product of one query with the keys of a head then reads what lies together. On a CPU a layer of 8 rows, 8 heads
of 64 and 256 tokens takes 0.22 ms so and 3.8 ms the other way, most of it turning keys and values round.
A row's `index` is how many tokens it has taken; `rewound` goes back to fewer of them, as speculative decoding does.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from arch.spec import UserError


@dataclasses.dataclass(frozen=True)
class Room:
    """How much a cache has to hold.

    Attributes:
      batch: B, rows.
      length: S, tokens a row at most, prompt included.
      dtype: of keys and values.
      snapshots: how many tokens `rewound` may go back at most; growing caches go back any number.
    """

    batch: int
    length: int
    dtype: Any = jnp.float32
    snapshots: int = 0


class LayerCache(abc.ABC):
    """One layer's memory."""

    @abc.abstractmethod
    def rewound(self, index_B: Int[Array, "B"]) -> Any:
        """The memory as it was after so many tokens of each row. Raises UserError if it does not reach back."""


def write(old_BS: jax.Array, new_BT: jax.Array, index_B: Int[Array, "B"], axis: int = 0) -> jax.Array:
    """`old` [B, S, ...] with `new` [B, T, ...] from place `index` of each row on; S and T are `axis` of a row."""

    def one(old_S: jax.Array, new_T: jax.Array, index: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old_S, new_T, index, axis=axis)

    return jax.vmap(one)(old_BS, new_BT.astype(old_BS.dtype), index_B)


def kept(x_BT: Shaped[Array, "B T *heads K"]) -> Shaped[Array, "B *heads T K"]:
    """Entries of tokens as a cache keeps them."""
    return jnp.moveaxis(x_BT, 1, -2)


def seen(x_BS: Shaped[Array, "B *heads S K"]) -> Shaped[Array, "B S *heads K"]:
    """Kept entries as a layer speaks of them. Turned again by what reads them, they are not moved: XLA sees both."""
    return jnp.moveaxis(x_BS, -2, 1)


def _room(batch: int, length: int, shapes: Mapping[str, Sequence[int]], dtype: Any) -> dict[str, jax.Array]:
    """Kept entries of `length` tokens, zero; name -> shape of one."""
    return {name: kept(jnp.zeros((batch, length, *shape), dtype)) for name, shape in shapes.items()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Growing(LayerCache):
    """name -> [B, ..., S, K], entry t of token t; places from the row's index on hold nothing yet."""

    entries: Mapping[str, jax.Array]

    @classmethod
    def empty(cls, room: Room, shapes: Mapping[str, Sequence[int]]) -> Growing:
        """Nothing yet; name -> shape (..., K) of an entry."""
        return cls(_room(room.batch, room.length, shapes, room.dtype))

    def written(self, new: Mapping[str, jax.Array], index_B: Int[Array, "B"]) -> Growing:
        """With the entries of T more tokens, name -> [B, T, ..., K]."""
        return Growing({name: write(old, kept(new[name]), index_B, -2) for name, old in self.entries.items()})

    def tokens(self, name: str) -> jax.Array:
        """The entries as [B, S, ..., K]."""
        return seen(self.entries[name])

    def rewound(self, index_B):
        return self  # what lies behind the index is written over, and not seen until then


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Window(LayerCache):
    """The last R tokens of each row, token t at t % R.

    Attributes:
      entries: name -> [B, ..., R, K].
      places: int32 [B, R], the token t of each entry; -1: nothing there.
      positions, segments: int32 [B, R], as in a `Context`.
    """

    entries: Mapping[str, jax.Array]
    places: jax.Array
    positions: jax.Array
    segments: jax.Array

    @classmethod
    def empty(cls, room: Room, window: int, shapes: Mapping[str, Sequence[int]]) -> Window:
        """Nothing yet, with room for `window` tokens and those that may be taken back."""
        size = window + room.snapshots
        nothing = jnp.zeros((room.batch, size), jnp.int32)
        return cls(_room(room.batch, size, shapes, room.dtype), nothing - 1, nothing, nothing)

    def tokens(self, name: str, new_BT: jax.Array) -> jax.Array:
        """The entries and behind them those of T more tokens, [B, R + T, ..., K]."""
        old = self.entries[name]
        return seen(jnp.concatenate([old, kept(new_BT).astype(old.dtype)], axis=-2))

    def written(
        self, new: Mapping[str, jax.Array], index_B: Int[Array, "B"], positions: jax.Array, segments: jax.Array
    ) -> Window:
        """With the entries of T more tokens, name -> [B, T, ..., K], and their positions and segments [B, T]."""
        size, T = self.places.shape[1], positions.shape[1]
        last = min(T, size)
        places = index_B[:, None] + jnp.arange(T - last, T, dtype=jnp.int32)[None]

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            return jax.vmap(lambda o, n, at: o.at[at].set(n))(old, new[:, T - last :].astype(old.dtype), places % size)

        def put_kept(old: jax.Array, new: jax.Array) -> jax.Array:
            new = kept(new[:, T - last :]).astype(old.dtype)
            return jax.vmap(lambda o, n, at: o.at[..., at, :].set(n))(old, new, places % size)

        entries = {name: put_kept(old, new[name]) for name, old in self.entries.items()}
        own = jnp.pad(places, ((0, 0), (T - last, 0)))
        return Window(entries, put(self.places, own), put(self.positions, positions), put(self.segments, segments))

    def rewound(self, index_B):
        gone = self.places >= index_B[:, None]
        zero = jnp.zeros((), jnp.int32)
        places = jnp.where(gone, zero - 1, self.places)
        return Window(self.entries, places, self.positions, jnp.where(gone, zero, self.segments))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed(LayerCache):
    """Arrays [B, ...], made once, by the first call that is given a memory."""

    entries: Mapping[str, jax.Array]

    def rewound(self, index_B):
        return self


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recurrent(LayerCache):
    """A state, and those after the last R tokens where it was made with `snapshots=R`.

    Attributes:
      state: tree of [B, ...] after the last token.
      past: the same tree of [B, R, ...], the state after token t at t % R; None: it cannot be rewound.
    """

    state: Any
    past: Any = None

    @classmethod
    def empty(cls, state: Any, room: Room) -> Recurrent:
        """Begins with `state`, and keeps the states after the last `room.snapshots` tokens and before them."""
        if not room.snapshots:
            return cls(state)
        return cls(state, jax.tree.map(lambda x: jnp.repeat(x[:, None], room.snapshots + 1, axis=1), state))

    def after(self, states: Any, index_B: Int[Array, "B"]) -> Recurrent:
        """Having taken T more tokens; `states` is a tree of [B, T, ...], the state after each of them."""
        last = jax.tree.map(lambda x: x[:, -1], states)
        if self.past is None:
            return Recurrent(last)
        size = jax.tree.leaves(self.past)[0].shape[1]
        T = jax.tree.leaves(states)[0].shape[1]
        kept = min(T, size)
        places = (index_B[:, None] + jnp.arange(T - kept, T, dtype=jnp.int32)[None]) % size

        def put(past: jax.Array, new: jax.Array) -> jax.Array:
            return jax.vmap(lambda p, n, at: p.at[at].set(n))(past, new[:, T - kept :].astype(past.dtype), places)

        return Recurrent(last, jax.tree.map(put, self.past, states))

    def rewound(self, index_B):
        if self.past is None:
            raise UserError("a recurrent state cannot be rewound: make the cache with snapshots, "
                            "init_cache(..., snapshots=N)")  # fmt: skip
        size = jax.tree.leaves(self.past)[0].shape[1]
        place = (index_B - 1) % size
        return Recurrent(jax.tree.map(lambda past: jax.vmap(lambda p, at: p[at])(past, place), self.past), self.past)


def layer_caches(tree: Any, change: Any) -> Any:
    """`change(cache)` of every layer cache in a tree whose arrays have a leading axis of layers."""
    is_cache = lambda node: isinstance(node, LayerCache)  # noqa: E731
    return jax.tree.map(lambda node: jax.vmap(change)(node), tree, is_leaf=is_cache)

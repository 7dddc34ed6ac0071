"""Caches of the four kinds: written, rewound and reordered by row, they are those made from scratch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.caches import Fixed, Growing, Recurrent, Room, Window, write
from arch.layers.positions import ALiBi, NoPosition
from arch.models.base import Cache, Inputs
from arch.models.decoder import Decoder
from arch.params import merge
from arch.spec import UserError
from arch.stacks import Cycle, Sequential
from tests.arch import tiny
from tests.arch.parts import drawn

B, S, BACK = 3, 14, 3
"""Rows, places of a cache, and how far it may be rewound."""

FULL, LOCAL = Attention(heads=2), Attention(heads=2, mask=SlidingWindow(3))
LINEAR = LinearAttention(heads=2, mask=Causal())


def model(*mixers, position=NoPosition(), loop="scan"):
    blocks = tuple(PreNorm(mixer=mixer) for mixer in mixers)
    block = blocks[0] if len(blocks) == 1 else Cycle(blocks)
    return Decoder(vocab=tiny.V, width=16, depth=2, block=block, position=position, stack=Sequential(loop))


MODELS = {
    "full": (model(FULL), Growing),
    "window": (model(LOCAL, loop="unroll"), Window),
    "window and bias": (model(LOCAL, position=ALiBi(heads=2)), Window),
    "linear": (model(LINEAR), Recurrent),
    "pattern": (model(LINEAR, LOCAL), None),
}


@functools.cache
def network(spec):
    """`call(tokens, cache)`, compiled, and `full(tokens)`: the logits of the row of `tokens`, without a cache."""
    graphdef, params, buffers = drawn(spec)
    call = lambda tokens, cache: merge(graphdef, params, buffers)(Inputs(tokens=tokens), cache=cache)  # noqa: E731
    whole = tiny.jit(lambda tokens: call(tokens, None).logits)

    def full(rows):
        padded = np.zeros((len(rows), S), np.int32)
        for row, tokens in enumerate(rows):
            padded[row, : len(tokens)] = tokens
        return np.asarray(whole(padded))

    return tiny.jit(call), full, merge(graphdef, params, buffers)


@tiny.jit
def back(cache, index, order):
    """The cache rewound, then reordered."""
    return cache.rewound(index).reordered(order)


def is_cache(node):
    return isinstance(node, (Growing, Window, Fixed, Recurrent))


@pytest.mark.parametrize("name", MODELS)
def test_rewound_and_reordered_rows_go_on_as_if_from_scratch(name):
    """Rows go back by different numbers of tokens and change places, and the next tokens find what is left of them."""
    spec, kind = MODELS[name]
    call, full, built = network(spec)
    tokens = tiny.tokens(B, 8)
    cache = built.init_cache(B, S, snapshots=BACK)
    kinds = {type(leaf) for leaf in jax.tree.leaves(cache.layers, is_leaf=is_cache)}
    assert kinds == ({kind} if kind else {Recurrent, Window})

    logits = []
    for first, last in ((0, 4), (4, 8)):
        out = call(tokens[:, first:last], cache)
        cache = out.cache
        logits.append(out.logits)
    tiny.close(np.concatenate(logits, axis=1), full(tokens)[:, :8])

    left, order = np.array([5, 8, 6], np.int32), np.array([2, 0, 0])
    cache = back(cache, left, order)
    np.testing.assert_array_equal(cache.index, left[order])
    rows = [tokens[row, : left[row]].tolist() for row in order]
    for step in (0, 1, 0):  # and more of it: what was taken back was written over
        new = tiny.tokens(B, 2, seed=len(rows[0]))
        out = call(new, cache)
        rows = [row + more.tolist() for row, more in zip(rows, new, strict=True)]
        expected = full(rows)
        for row, text in enumerate(rows):
            tiny.close(out.logits[row], expected[row, len(text) - 2 : len(text)])
        cache = back(out.cache, out.cache.index - step, np.arange(B))
        rows = [row[: len(row) - step] for row in rows]


def test_everything_may_be_taken_back():
    """To the empty cache, where there are no more tokens than snapshots."""
    for name in ("full", "window", "linear"):
        call, full, built = network(MODELS[name][0])
        cache = call(tiny.tokens(B, 2), built.init_cache(B, S, snapshots=BACK)).cache
        again = call(tiny.tokens(B, 2, seed=3), back(cache, np.zeros(B, np.int32), np.arange(B)))
        tiny.close(again.logits, full(tiny.tokens(B, 2, seed=3))[:, :2])


def test_a_recurrent_state_without_snapshots_cannot_go_back():
    call, _, built = network(MODELS["linear"][0])
    cache = call(tiny.tokens(B, 4), built.init_cache(B, S)).cache
    assert jax.tree.leaves(cache.layers, is_leaf=is_cache)[0].past is None
    with pytest.raises(UserError, match=r"cannot be rewound: make the cache with snapshots, init_cache\(.*snapshots=N"):
        cache.rewound(jnp.full(B, 3))
    tiny.close(cache.reordered(jnp.arange(B)), cache, 0, 0)


def test_sizes():
    """A window keeps its tokens and those that may come back; one as long as the row is a growing cache."""
    _, _, built = network(MODELS["window"][0])
    sizes = lambda length, snapshots: built.init_cache(B, length, snapshots=snapshots).layers  # noqa: E731
    assert sizes(100, 0)["mixer"].places.shape == (2, B, 3)
    assert sizes(100, BACK)["mixer"].places.shape == (2, B, 3 + BACK)
    assert isinstance(sizes(6, BACK)["mixer"], Growing)
    _, _, built = network(MODELS["linear"][0])
    assert sizes(10_000, BACK)["mixer"].past.keys.shape[:3] == (2, B, BACK + 1)


def test_writing_by_row():
    old, new = np.zeros((2, 5, 1), np.float32), np.arange(1, 5, dtype=np.float32).reshape(2, 2, 1)
    found = write(jnp.asarray(old), jnp.asarray(new), jnp.array([0, 3]))
    np.testing.assert_array_equal(found[..., 0], [[1, 2, 0, 0, 0], [0, 0, 0, 3, 4]])


def test_a_window_holds_the_last_tokens_of_each_row():
    """Token t at t % R, with its position and document; what is taken back is nothing."""
    window = Window.empty(Room(2, 100), 3, {"k": (1,)})
    index = jnp.array([0, 1])
    entries = jnp.arange(10, dtype=jnp.float32).reshape(2, 5, 1)
    positions = jnp.arange(5, dtype=jnp.int32)[None] + index[:, None]
    window = window.written({"k": entries}, index, positions, jnp.full((2, 5), 2, jnp.int32))
    np.testing.assert_array_equal(window.places, [[3, 4, 2], [3, 4, 5]])
    np.testing.assert_array_equal(window.entries["k"][..., 0], [[3, 4, 2], [7, 8, 9]])
    np.testing.assert_array_equal(window.positions, window.places)
    back = window.rewound(jnp.array([4, 5]))
    np.testing.assert_array_equal(back.places, [[3, -1, 2], [3, 4, -1]])
    np.testing.assert_array_equal(back.segments, [[2, 0, 2], [2, 2, 0]])


def test_a_state_and_those_before_it():
    state = {"x": jnp.zeros((2, 1)) - 1}
    cache = Recurrent.empty(state, Room(2, 100, snapshots=2))
    states = {"x": jnp.arange(8, dtype=jnp.float32).reshape(2, 4, 1)}
    cache = cache.after(states, jnp.array([0, 0]))
    np.testing.assert_array_equal(cache.state["x"][:, 0], [3, 7])
    np.testing.assert_array_equal(cache.rewound(jnp.array([2, 4])).state["x"][:, 0], [1, 7])
    early = Recurrent.empty(state, Room(2, 100, snapshots=2)).after({"x": states["x"][:, :2]}, jnp.array([0, 0]))
    np.testing.assert_array_equal(early.rewound(jnp.array([0, 1])).state["x"][:, 0], [-1, 4])
    with pytest.raises(UserError, match="cannot be rewound"):
        Recurrent.empty(state, Room(2, 100)).rewound(jnp.zeros(2, jnp.int32))


def test_what_is_made_once_stays():
    """Keys and values of a memory: not rewound, but reordered with its row, as is what the model keeps beside them."""
    fixed = Fixed({"k": jnp.arange(6, dtype=jnp.float32).reshape(1, 3, 2)})
    cache = Cache.empty({"cross": fixed}, Room(3, 4), memory=jnp.arange(3))
    back = cache.rewound(jnp.zeros(3, jnp.int32))
    tiny.close(back.layers, cache.layers, 0, 0)
    moved = cache.reordered(jnp.array([2, 2, 0]))
    np.testing.assert_array_equal(moved.layers["cross"].entries["k"][0], [[4, 5], [4, 5], [0, 1]])
    np.testing.assert_array_equal(moved.memory, [2, 2, 0])

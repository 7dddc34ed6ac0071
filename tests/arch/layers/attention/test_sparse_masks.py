"""Sparse patterns, counted by brute force."""

import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention.masks import Bidirectional, Causal, SlidingWindow
from arch.layers.attention.sparse_masks import BigBird, Both, Longformer, Strided
from arch.spec import SpecError

T = 24


def table(mask, length=T):
    """bool [t, s], from positions known while tracing and, the same, from arrays."""
    places = np.arange(length, dtype=np.int32)
    known = np.broadcast_to(mask.allowed(places[:, None], places[None]), (length, length))
    traced = mask.allowed(jnp.asarray(places)[:, None], jnp.asarray(places)[None])
    np.testing.assert_array_equal(known, np.broadcast_to(traced, (length, length)))
    assert isinstance(mask.allowed(places[:, None], places[None]), np.ndarray)
    return known


@pytest.mark.parametrize(("radius", "first"), [(2, 1), (0, 3), (3, 0)])
def test_longformer(radius, first):
    expected = [[abs(t - s) <= radius or t < first or s < first for s in range(T)] for t in range(T)]
    np.testing.assert_array_equal(table(Longformer(radius, first)), expected)


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_strided(stride):
    expected = [[abs(t - s) < stride or abs(t - s) % stride == 0 for s in range(T)] for t in range(T)]
    np.testing.assert_array_equal(table(Strided(stride)), expected)


def test_both_is_the_intersection_and_the_papers_causal_form():
    stride = 4
    expected = [[s <= t and (t - s < stride or (t - s) % stride == 0) for s in range(T)] for t in range(T)]
    np.testing.assert_array_equal(table(Both(Causal(), Strided(stride))), expected)
    np.testing.assert_array_equal(table(Both(Strided(3), SlidingWindow(5))), table(Both(SlidingWindow(5), Strided(3))))
    places = np.arange(3)
    np.testing.assert_array_equal(
        Both(Bidirectional(), Causal()).allowed(places[:, None], places[None]), np.tril(np.ones((3, 3), bool))
    )
    assert Both(Bidirectional(), Bidirectional()).allowed(places, places) is None


@pytest.mark.parametrize("random", [0, 1, 3])
def test_bigbird_blocks(random):
    """Each block sees its neighbours, the first block, and `random` more, or as many as there are."""
    block, blocks = 3, 8
    seen = table(BigBird(block=block, random=random, global_blocks=1, length=T))
    by_block = seen.reshape(blocks, block, blocks, block).transpose(0, 2, 1, 3).reshape(blocks, blocks, -1)
    assert (by_block.all(-1) == by_block.any(-1)).all()
    by_block = by_block.any(-1)
    assert by_block[0].all()
    assert by_block[:, 0].all()
    for i in range(1, blocks):
        others = {j for j in range(1, blocks) if abs(i - j) > 1}
        assert all(by_block[i, j] for j in range(max(1, i - 1), min(blocks, i + 2)))
        assert sum(by_block[i, j] for j in others) == min(random, len(others))


def test_bigbird_is_drawn_from_its_seed():
    one, other = BigBird(block=2, random=2, length=T, seed=0), BigBird(block=2, random=2, length=T, seed=1)
    np.testing.assert_array_equal(table(one), table(BigBird(block=2, random=2, length=T, seed=0)))
    assert (table(one) != table(other)).any()


def test_bigbird_past_its_length_has_no_random_blocks():
    inside = table(BigBird(block=3, random=2, length=12))
    none = table(BigBird(block=3, random=0, length=12))
    assert (inside != none)[:12, :12].any()
    assert (inside == none)[12:].all()
    assert (inside == none)[:, 12:].all()


def test_sizes_are_checked():
    with pytest.raises(SpecError, match="block=0: must be at least 1"):
        BigBird(block=0)
    with pytest.raises(SpecError, match="radius=-1"):
        Longformer(radius=-1)

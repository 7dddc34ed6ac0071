"""Keys that follow what chooses them: Lloyd's step, the fixed point, and what becomes of the dead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks.key_value import chosen
from arch.bottlenecks.keys import EmaKeys, FixedKeys
from arch.layers.init.initializers import Normal
from arch.models.base import context
from arch.params import ParamFactory, split
from arch.spec import SpecError

C, P, K = 2, 6, 2
CENTRES = np.array([[0, 0], [8, 0], [0, 8], [8, 8], [-8, 0], [0, -8]], np.float32)


def layer(**fields):
    return EmaKeys(**fields).build(C, P, K, ParamFactory(jax.random.key(0), Normal()))


def sums_of(part, h, table):
    """The statistics of vectors [N, K] that are those of every head."""
    h = jnp.broadcast_to(jnp.asarray(h)[:, None], (len(h), C, K))
    ctx = context()
    part.note(h, chosen(h, table), ctx)
    return ctx.answers.collect(part).statistics[""]


def advanced(part, h, steps):
    step = jax.jit(lambda buffers: part.advance(buffers, sums_of(part, h, buffers["table"])))
    buffers = split(part)[2]
    for _ in range(steps):
        buffers = step(buffers)
    return {name: np.asarray(value) for name, value in buffers.items()}


def points(seed=0, around=CENTRES, each=5):
    rng = np.random.default_rng(seed)
    return np.concatenate([centre + 0.1 * rng.normal(size=(each, K)) for centre in around]).astype(np.float32)


def test_without_memory_a_step_is_one_of_lloyds():
    part, h = layer(decay=0.0, dead=0.0), points(1)
    before, after = np.asarray(part.table[...]), advanced(part, h, 1)["table"]
    for head in range(C):
        ids = np.argmin(np.sum((h[:, None] - before[head][None]) ** 2, axis=-1), axis=1)
        assert len(set(ids)) < P  # a key that nothing chose stays where it is
        for key in range(P):
            mean = h[ids == key].mean(axis=0) if (ids == key).any() else before[head, key]
            np.testing.assert_allclose(after[head, key], mean, rtol=1e-5, atol=1e-6)


def test_the_running_mean_is_its_formula():
    part, h = layer(decay=0.7, dead=0.0), points(2)
    table = np.asarray(part.table[...], np.float64)
    found = advanced(part, h, 1)
    for head in range(C):
        ids = np.argmin(np.sum((h[:, None] - table[head][None]) ** 2, axis=-1), axis=1)
        n = 0.7 + 0.3 * np.bincount(ids, minlength=P)
        m = 0.7 * table[head] + 0.3 * np.stack([h[ids == key].sum(axis=0) for key in range(P)])
        np.testing.assert_allclose(found["counts"][head], n, rtol=1e-5)
        np.testing.assert_allclose(found["table"][head], m / n[:, None], rtol=1e-4, atol=1e-5)


def test_separated_clusters_end_with_a_key_each_at_their_mean():
    """Whatever the start: dead keys take over halves until none is dead. The mean of a cluster is a fixed point."""
    part, h = layer(decay=0.5, dead=0.1), points(3)
    means = h.reshape(P, -1, K).mean(axis=1)
    found = advanced(part, h, 60)["table"]
    for head in range(C):
        gaps = np.linalg.norm(found[head][:, None] - means[None], axis=-1)
        assert sorted(gaps.argmin(axis=1)) == list(range(P))
        assert gaps.min(axis=1).max() < 1e-3


def test_a_dead_key_takes_half_of_the_one_with_the_largest_error():
    """Key 0 has two far groups, key 1 a tight one: keys 2 and 3 are dead, and only two keys have anything to give."""
    part = layer(decay=0.9, dead=0.1)
    buffers = {name: np.array(value) for name, value in split(part)[2].items()}
    counts = np.array([4.0, 4.0, 0.001, 0.001, 5.0, 5.0], np.float32)
    table = np.array([[1, 0], [0, 1], [9, 9], [9, 9], [3, 3], [-3, 3]], np.float32)
    error = np.array([40.0, 4.0, 0, 0, 0, 0], np.float32)  # keys 4 and 5 have none
    buffers["counts"][:], buffers["table"][:] = counts, table
    buffers["sums"][:] = counts[:, None] * table
    buffers["squares"][:] = counts * np.sum(table**2, axis=1) + error
    nothing = {name: jnp.zeros_like(buffers[name]) for name in ("counts", "sums", "squares")}
    found = jax.tree.map(np.asarray, jax.jit(part.advance)(buffers, nothing))
    for head in range(C):
        counted = 0.9 * counts * [0.5, 0.5, 0, 0, 1, 1]
        counted[2:4] = counted[:2]
        np.testing.assert_allclose(found["counts"][head], counted, rtol=1e-5)
        np.testing.assert_allclose(found["table"][head][[0, 1, 4, 5]], table[[0, 1, 4, 5]], rtol=1e-5)
        away = np.asarray(jax.random.normal(jax.random.key(0), (P, K)))
        np.testing.assert_allclose(found["table"][head][2], table[0] + np.sqrt(10 / K) * away[2], rtol=1e-3)
        np.testing.assert_allclose(found["table"][head][3], table[1] + np.sqrt(1 / K) * away[3], rtol=1e-3)
        np.testing.assert_allclose(found["sums"][head], counted[:, None] * found["table"][head], rtol=1e-4)


def test_sums_of_halves_add_up_and_fixed_keys_answer_nothing():
    part, h = layer(), points(4)
    sums = jax.jit(lambda h: sums_of(part, h, part.table[...]))
    whole, *halves = (sums(rows) for rows in (h, h[:15], h[15:]))
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-5, atol=1e-5), whole, *halves)
    fixed, ctx = FixedKeys().build(C, P, K, ParamFactory(jax.random.key(0), Normal())), context()
    fixed.note(jnp.zeros((3, C, K)), jnp.zeros((3, C), jnp.int32), ctx)
    assert not ctx.answers.collect(fixed).statistics
    assert np.array_equal(fixed.table[...], part.table[...])  # one start, whichever kind


@pytest.mark.parametrize("fields", [{"decay": 1.0}, {"decay": -0.1}, {"dead": 1.5}])
def test_what_is_not_defined_is_refused(fields):
    with pytest.raises(SpecError, match=next(iter(fields))):
        EmaKeys(**fields)

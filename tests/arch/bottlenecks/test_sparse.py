"""Sparse autoencoders against numpy: which amplitudes stay, what revives dead codes, and how many bits they take."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks import bits
from arch.bottlenecks.sparse import rounded
from arch.bottlenecks.top_k import BatchTopK, TopK
from arch.params import merge
from arch.spec import SpecError
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import ROWS, build, called, compiled, host, vectors

EVERY = np.ones(ROWS, np.float32)


def before(params, x):
    """z and the directions."""
    params = host(params)
    z = (x - params["bias"]) @ params["encoder"] + params["encoder_bias"]
    return z, params["decoder"] / np.linalg.norm(params["decoder"], axis=-1, keepdims=True)


def dense(found):
    """Amplitudes of all codes."""
    a = np.zeros((len(found.codes), 16), np.float32)
    np.add.at(a, (np.arange(len(a))[:, None], np.asarray(found.codes)), np.asarray(found.amplitudes))
    return a


def test_the_k_largest_of_each():
    fn, (graph, params, _) = compiled("top k")
    found, _, _ = fn(vectors(), EVERY)
    z, ways = before(params, vectors())
    kept = np.where(z >= np.sort(z, axis=-1)[:, -3:-2], np.maximum(z, 0), 0)
    np.testing.assert_allclose(dense(found), kept, atol=1e-5)
    np.testing.assert_allclose(found.values, kept @ ways, atol=1e-5)
    np.testing.assert_allclose(
        found.losses["reconstruction"].value, np.square(kept @ ways - vectors()).mean(), rtol=1e-4
    )
    np.testing.assert_allclose(found.metrics["active"].value, (kept > 0).sum(-1).mean(), rtol=1e-6)
    assert float(found.losses["auxiliary"].value) == 0  # no code is dead yet
    counts = np.ones(16, np.float32)
    counts[:6] = 0
    gone = called((graph, params, {"counts": jnp.asarray(counts)}), vectors())
    zd = np.maximum(z[:, :6], 0)
    zd = np.where(zd >= np.sort(zd, axis=-1)[:, -4:-3], zd, 0)  # half the width: four
    rest = vectors() - kept @ ways
    np.testing.assert_allclose(gone.losses["auxiliary"].value, np.square(rest - zd @ ways[:6]).mean() / 32, rtol=1e-4)


def test_the_k_n_largest_of_a_batch_and_a_threshold_after():
    graph, params, buffers = compiled("batch top k")[1]
    part = merge(graph, params, buffers)
    weights = np.where(np.arange(ROWS) < 9, 1, 0).astype(np.float32)
    found = called((graph, params, buffers), vectors(), weights, training=True)
    z, ways = before(params, vectors())
    real = np.maximum(z[:9], 0)
    least = np.sort(real.reshape(-1))[-27]
    kept = np.where(real >= least, real, 0)
    np.testing.assert_allclose(dense(found)[:9], kept, atol=1e-5)
    np.testing.assert_allclose(found.metrics["active"].value, 3.0)
    np.testing.assert_allclose(found.values[:9], kept @ ways, atol=1e-5)
    new = part.advance(buffers, found.statistics)
    np.testing.assert_allclose(new["threshold"], least, rtol=1e-4)  # the first one whole
    later = part.advance(new, {**found.statistics, "least": 2 * found.statistics["least"]})
    np.testing.assert_allclose(later["threshold"], 1.01 * least, rtol=1e-4)
    nothing = part.advance(new, {**found.statistics, "least": jnp.zeros(()), "number": jnp.zeros(())})
    np.testing.assert_array_equal(nothing["threshold"], new["threshold"])
    after = called((graph, params, {**buffers, "threshold": jnp.asarray(least)}), vectors()[:2])
    np.testing.assert_allclose(dense(after), kept[:2], atol=1e-5)
    few = build(BatchTopK(codes=16, k=3, most=4))[0]
    assert called((few, params, buffers), vectors()).codes.shape == (ROWS, 4)


def test_a_gate_lets_through_and_is_trained_by_its_own_losses():
    graph, params, buffers = compiled("gated")[1]
    rng = np.random.default_rng(5)
    shake = lambda leaf: leaf + np.float32(0.1) * rng.normal(size=leaf.shape).astype(np.float32)  # noqa: E731
    params, x = jax.tree.map(shake, host(params)), vectors()
    found = called((graph, params, buffers), x)
    gate, ways = before(params, x)
    inner = gate - params["encoder_bias"]
    sizes = np.maximum(inner * np.exp(params["scale"]) + params["size_bias"], 0) * (gate > 0)
    np.testing.assert_allclose(found.values, sizes @ ways + params["bias"], atol=1e-4)
    opened = np.maximum(gate, 0)
    np.testing.assert_allclose(found.losses["sparsity"].value, 0.1 * opened.sum(-1).mean(), rtol=1e-4)
    own = np.square(opened @ ways + params["bias"] - x).mean()
    np.testing.assert_allclose(found.losses["gate"].value, own, rtol=1e-4)
    gate_loss = lambda p: merge(graph, p, buffers).quantize(jnp.asarray(x)).losses["gate"].value  # noqa: E731
    grads = tiny.jit(jax.grad(gate_loss))(params)
    np.testing.assert_array_equal(grads["decoder"], 0.0)
    assert np.abs(grads["encoder"]).max() > 0


def test_bits():
    """log2 C of equally probable codes; the entropy of Zipf's law by its closed form; sets; amplitudes."""
    assert bits.uniform_bits(1024) == 10
    size = 1000
    harmonic = sum(1 / rank for rank in range(1, size + 1))
    logs = sum(math.log(rank) / rank for rank in range(1, size + 1))
    zipf = (logs / harmonic + math.log(harmonic)) / math.log(2)
    counts = jnp.asarray(7e3 / np.arange(1, size + 1), jnp.float32)
    np.testing.assert_allclose(bits.entropy_bits(counts), zipf, rtol=1e-5)
    np.testing.assert_allclose(bits.chosen_bits(counts, size, 1), zipf, rtol=1e-5)
    np.testing.assert_allclose(bits.chosen_bits(jnp.ones(size), size, 1), math.log2(size), rtol=1e-5)
    np.testing.assert_allclose(bits.set_bits(1000, 8), math.log2(math.comb(1000, 8)), rtol=1e-9)
    np.testing.assert_allclose(bits.sparse_bits(None, 50, 4, 8), math.log2(math.comb(50, 4)) + 32, rtol=1e-6)
    assert bits.set_bits(8, 8) == 0
    assert float(bits.chosen_bits(jnp.zeros(9).at[3].set(5.0), 9, 1)) == 0


def as_bfloat16(a):
    """To the nearest number whose last 16 bits are 0, of two as near the even one, at most the largest finite one."""
    bits = np.minimum(np.asarray(a, np.float32), np.float32(255 * 2.0**120)).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def as_float8(a):
    """To 3 bits behind the leading one, an exponent of at least -6, at most 448."""
    a = np.minimum(np.asarray(a, np.float64), 448)
    unit = 2.0 ** (np.maximum(np.floor(np.log2(np.maximum(a, 1e-30))), -6) - 3)
    return np.round(a / unit) * unit  # numpy rounds halves to even


@pytest.mark.parametrize(("precision", "by_hand"), [(16, as_bfloat16), (8, as_float8)])
def test_amplitudes_take_the_bits_that_are_told(precision, by_hand):
    """What goes on is made of rounded amplitudes, and the bits are those of the same codes but for the amplitudes."""
    spec = TopK(codes=16, k=3, precision=precision)
    state = build(spec)
    fine = compiled("top k")[0](vectors(), EVERY)[0]
    up = vectors(1)

    def fn(x):
        found = merge(*state).quantize(x)
        return jnp.sum(found.values * up), found

    (_, found), dx = tiny.jit(jax.value_and_grad(fn, has_aux=True))(vectors())
    _, ways = before(state[1], vectors())
    amplitudes = by_hand(fine.amplitudes)
    np.testing.assert_array_equal(found.amplitudes, amplitudes)
    assert (found.amplitudes != fine.amplitudes).any()
    np.testing.assert_array_equal(found.codes, fine.codes)
    y = np.einsum("mk,mkn->mn", amplitudes, ways[np.asarray(found.codes)])
    np.testing.assert_allclose(found.values, y, atol=1e-5)
    np.testing.assert_allclose(found.losses["reconstruction"].value, np.square(y - vectors()).mean(), rtol=1e-4)
    exact = compiled("top k")[0](vectors(), EVERY)[2][1]
    np.testing.assert_allclose(dx, exact, atol=1e-6)  # straight through: the losses pull no vector
    gap = 3 * (32 - precision)
    np.testing.assert_allclose(fine.metrics["bits"].value - found.metrics["bits"].value, gap, rtol=1e-5)


def test_rounding_amplitudes():
    sizes = jnp.asarray([0.0, 1e-9, 1.0, 1.0625, 447.0, 1e6, 3.4e38], jnp.float32)
    np.testing.assert_array_equal(rounded(sizes, 8), as_float8(sizes))
    np.testing.assert_array_equal(rounded(sizes, 16), as_bfloat16(sizes))
    np.testing.assert_array_equal(rounded(sizes, 32), sizes)
    np.testing.assert_array_equal(rounded(rounded(sizes, 8), 8), rounded(sizes, 8))
    with pytest.raises(SpecError, match="must be one of 32, 16, 8"):
        TopK(precision=12)


def test_micro_batches_choose_each_by_itself():
    """The running mean takes the mean of their least amplitudes, by vectors; the whole batch has another one."""
    state = compiled("batch top k")[1]
    part = merge(*state)
    first = (np.arange(ROWS) < 4).astype(np.float32)
    z = np.maximum(before(state[1], vectors())[0], 0)
    least = lambda rows: np.sort(z[rows].reshape(-1))[-3 * len(z[rows])]  # noqa: E731
    one, two, whole = (called(state, vectors(), w, training=True).statistics for w in (first, 1 - first, EVERY))
    apart, together = (part.advance(state[2], s) for s in (jax.tree.map(jnp.add, one, two), whole))
    mean = (4 * least(slice(0, 4)) + 8 * least(slice(4, ROWS))) / ROWS
    np.testing.assert_allclose(apart["threshold"], mean, rtol=1e-4)
    np.testing.assert_allclose(together["threshold"], least(slice(0, ROWS)), rtol=1e-4)
    assert abs(apart["threshold"] - together["threshold"]) > 1e-3

"""VQ-VAE, SimVQ, residual and Gumbel codes against numpy; the rotation trick; dead codes that come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from arch.bottlenecks.gradients import Rotation
from arch.bottlenecks.gumbel import GumbelSoftmax
from arch.bottlenecks.kmeans import kmeans
from arch.bottlenecks.sim_vq import SimVQ
from arch.bottlenecks.usage import dead
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.params import merge
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import ROWS, WIDTH, build, called, compiled, host, vectors

EVERY = np.ones(ROWS, np.float32)


def nearest(x, codes):
    return np.argmin(np.square(x[:, None].astype(np.float64) - codes).sum(-1), axis=-1)


def test_running_means():
    """N <- d N + (1 - d) n, M <- d M + (1 - d) s, e = M / N; a code nobody chose stays."""
    fn, (graph, params, buffers) = compiled("running means")
    found, _, (grads, dx) = fn(vectors(), EVERY)
    old = np.asarray(buffers["codes"], np.float64)
    ids = nearest(vectors(), old)
    np.testing.assert_array_equal(found.codes[:, 0], ids)
    np.testing.assert_array_equal(found.values, buffers["codes"][ids])
    gap = np.square(vectors() - old[ids]).mean()
    np.testing.assert_allclose(found.losses["commitment"].value, 0.25 * gap, rtol=1e-5)
    assert params == grads == {}
    np.testing.assert_allclose(dx, vectors(1) + 0.5 * (vectors() - old[ids]) / (ROWS * WIDTH), atol=1e-6)
    chosen = np.eye(6)[ids]
    before = np.arange(1, 7, dtype=np.float32)
    counts = 0.9 * before + 0.1 * chosen.sum(0)
    mass = 0.9 * before[:, None] * old + 0.1 * chosen.T @ vectors()
    buffers = {**buffers, "counts": jnp.asarray(before)}
    new = merge(graph, params, buffers).advance(buffers, found.statistics)
    np.testing.assert_allclose(new["counts"], counts, rtol=1e-6)
    np.testing.assert_allclose(new["codes"], mass / counts[:, None], atol=1e-6)
    unused = np.setdiff1d(np.arange(6), ids)
    np.testing.assert_allclose(new["codes"][unused], old[unused], rtol=1e-6)


def test_learned_codes_and_those_of_a_learned_map():
    for name, over in (("learned codes", "codes"), ("SimVQ", "map")):
        fn, (_, params, buffers) = compiled(name)
        found, _, (grads, _) = fn(vectors(), EVERY)
        codes = params["codes"] if name != "SimVQ" else buffers["fixed"] @ params["map"]
        codes = np.asarray(codes, np.float64)
        ids = nearest(vectors(), codes)
        np.testing.assert_array_equal(found.codes[:, 0], ids)
        gap = np.square(vectors() - codes[ids]).mean()
        np.testing.assert_allclose(found.losses["codebook"].value, gap, rtol=1e-5)
        np.testing.assert_allclose(found.losses["commitment"].value, 0.25 * gap, rtol=1e-5)
        by_code = np.eye(6)[ids].T @ (2 * (codes[ids] - vectors()) / (ROWS * WIDTH))
        expected = by_code if over == "codes" else np.asarray(buffers["fixed"], np.float64).T @ by_code
        np.testing.assert_allclose(grads[over], expected, atol=1e-6)


def test_the_map_of_SimVQ_moves_codes_that_nobody_chose():  # noqa: N802
    graph, params, buffers = build(SimVQ(codes=64))
    grads = tiny.jit(
        jax.grad(lambda p: merge(graph, p, buffers).quantize(jnp.asarray(vectors())).losses["codebook"].value)
    )(params)
    moved = jnp.abs(buffers["fixed"] @ grads["map"]).max(-1)
    assert (moved > 0).all()


def test_the_rotation_trick():
    """The values are the codes; the gradient is that of a rotation and a stretch, which take x to its code."""
    x, y = vectors(), vectors(2)
    values, back = jax.vjp(lambda x: Rotation()(x, jnp.asarray(y)), x)
    np.testing.assert_array_equal(values, y)
    (dx,) = back(vectors(1))
    for row in range(ROWS):
        a, b, g = (np.asarray(one[row], np.float64) for one in (x, y, vectors(1)))
        u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
        r = (u + v) / np.linalg.norm(u + v)
        turn = np.eye(WIDTH) - 2 * np.outer(r, r) + 2 * np.outer(v, u)
        np.testing.assert_allclose(turn @ u, v, atol=1e-12)
        np.testing.assert_allclose(turn @ turn.T, np.eye(WIDTH), atol=1e-12)
        np.testing.assert_allclose(dx[row], np.linalg.norm(b) / np.linalg.norm(a) * turn.T @ g, atol=1e-4)
    _, back = jax.vjp(lambda x: Rotation()(x, jnp.zeros_like(x)), x)
    np.testing.assert_array_equal(back(vectors(1))[0], vectors(1))


def test_stages_quantise_what_is_left():
    found, _, (_, dx) = compiled("residual")[0](vectors(), EVERY)
    _, _, buffers = compiled("residual")[1]
    first, second = (np.asarray(buffers["stages"][name]["codes"]) for name in "01")
    assert not np.array_equal(first, second)
    one = nearest(vectors(), first)
    rest = vectors() - first[one]
    two = nearest(rest, second)
    np.testing.assert_array_equal(found.codes, np.stack([one, two], axis=-1))
    np.testing.assert_allclose(found.values, first[one] + second[two], atol=1e-6)
    losses = [0.25 * np.square(rest).mean(), 0.25 * np.square(rest - second[two]).mean()]
    np.testing.assert_allclose(found.losses["commitment"].value, sum(losses), rtol=1e-5)
    # Upstream once, and the pulls of both stages.
    pull = 0.5 * (rest + rest - second[two]) / (ROWS * WIDTH)
    np.testing.assert_allclose(dx, vectors(1) + pull, atol=1e-6)
    np.testing.assert_allclose(found.metrics["bits"].value, 2 * np.log2(6), rtol=1e-6)
    graph, params, buffers = compiled("residual")[1]
    new = merge(graph, params, buffers).advance(buffers, found.statistics)["stages"]
    for name, ids in (("0", one), ("1", two)):
        counts = 0.99 + 0.01 * np.bincount(ids, minlength=6)
        np.testing.assert_allclose(new[name]["counts"], counts, rtol=1e-6)


def test_gumbel_codes_are_drawn_while_training_with_a_key_alone():
    """As often as softmax says; else the most probable one."""
    state = build(GumbelSoftmax(codes=4))
    part, params = merge(*state), host(state[1])
    x = vectors(rows=1)
    logits = np.asarray(x @ params["logits"]["kernel"] + params["logits"]["bias"])[0]
    many = jnp.broadcast_to(x, (4000, WIDTH))
    drawn = called(state, many, training=True, key=jax.random.key(0)).codes
    share = np.bincount(np.asarray(drawn)[:, 0], minlength=4) / 4000
    np.testing.assert_allclose(share, np.exp(logits) / np.exp(logits).sum(), atol=0.03)
    assert int(called(state, x, training=True).codes[0, 0]) == logits.argmax()
    soft = np.exp(logits) / np.exp(logits).sum()
    gap = np.log(4) + (soft * np.log(soft)).sum()
    np.testing.assert_allclose(called(state, x).losses["divergence"].value, 5e-4 * gap, rtol=1e-4)
    up = vectors(1, rows=1)
    grads = tiny.jit(jax.grad(lambda x: jnp.sum(part.quantize(x).values * up)))(x)
    by_logit = soft * (params["codes"] @ up[0] - soft @ params["codes"] @ up[0])
    np.testing.assert_allclose(grads[0], params["logits"]["kernel"] @ by_logit, atol=1e-5)


def after(spec, x, steps=60):
    """The buffers after so many steps on the same vectors, and the metrics of the last."""
    graph, params, buffers = build(spec, x.shape[-1])

    @tiny.jit
    def step(buffers):
        part = merge(graph, params, buffers)
        found = part.quantize(jnp.asarray(x))
        return part.advance(buffers, found.statistics), found.metrics

    for _ in range(steps):
        buffers, metrics = step(buffers)
    return buffers, {name: float(one.value) for name, one in metrics.items()}


def test_dead_codes_come_back():
    """All codes start where no vector is and one takes all; with the rule nearly all are used in the end."""
    x = vectors(rows=400) + 50
    spec = VectorQuantized(codes=16, decay=0.8, std=0.01)
    _, alone = after(spec, x)
    buffers, back = after(VectorQuantized(codes=16, decay=0.8, std=0.01, revive=0.1), x)
    assert alone["dead"] >= 14
    assert back["dead"] == 0
    assert back["error"] < 0.8 * alone["error"]
    assert float(dead(buffers["counts"]).sum()) == 0
    same = np.ones((30, WIDTH), np.float32)  # nothing to split: still a number
    buffers, told = after(VectorQuantized(codes=16, decay=0.8, revive=0.1), same)
    assert np.isfinite(buffers["codes"]).all()
    assert told["error"] < 1e-6


def test_more_codes_than_vectors():
    x = vectors(rows=5)
    buffers, told = after(VectorQuantized(codes=64, decay=0.5), x)
    assert np.isfinite(buffers["codes"]).all()
    assert told["error"] < 1e-6


def test_kmeans_is_lloyds_algorithm():
    """Centres of three clumps; each centre the mean of those nearest to it; all of few vectors and more."""
    clumps = np.repeat(np.eye(3, WIDTH, dtype=np.float32) * 20, 30, axis=0) + vectors(rows=90)
    lloyd = tiny.jit(functools.partial(kmeans, codes=5, steps=30))
    for seed in range(3):
        centres = np.asarray(lloyd(clumps, key=jax.random.key(seed)))
        ids = nearest(clumps, centres)
        for code in range(5):
            if (ids == code).any():
                np.testing.assert_allclose(centres[code], clumps[ids == code].mean(0), atol=1e-4)
    few = np.asarray(tiny.jit(functools.partial(kmeans, codes=8))(vectors(rows=3), key=jax.random.key(0)))
    assert np.square(vectors(rows=3) - few[nearest(vectors(rows=3), few)]).max() < 1e-6
    weights = np.repeat([1.0, 1.0, 0.0], 30).astype(np.float32)
    ignored = np.asarray(tiny.jit(functools.partial(kmeans, codes=2))(clumps, key=jax.random.key(0), weights=weights))
    assert (np.abs(ignored[:, 2]) < 5).all()

"""Codebook features against a numpy formula, and what section 2 of the paper says of gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.lookup import nearest
from arch.bottlenecks.several import Grouped, PerHead
from arch.layers.init.initializers import FanIn
from arch.params import ParamFactory, merge, split
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import ROWS, WIDTH, build, called, compiled, quantized, vectors

SPEC = Codebook(codes=12, k=3)


def codes_of(name="codebook"):
    return np.asarray(compiled(name)[1][1]["codes"], np.float64)


def formula(x, codes, k):
    """Ids, most similar first, and the sum of their codes, by the paper's cosine."""
    x = np.asarray(x, np.float64)
    lengths = np.linalg.norm(x, axis=-1)[:, None] * np.linalg.norm(codes, axis=-1)
    ids = np.argsort(-(x @ codes.T) / lengths, axis=-1)[:, :k]
    return ids, codes[ids].sum(axis=1)


def test_the_papers_formula():
    found, _, _ = compiled("codebook")[0](vectors(), np.ones(ROWS, np.float32))
    ids, y = formula(vectors(), codes_of(), 3)
    np.testing.assert_array_equal(found.codes, ids)
    np.testing.assert_allclose(found.values, y, atol=1e-5)
    np.testing.assert_allclose(found.losses["reconstruction"].value, np.square(y - vectors()).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        found.metrics["error"].value, np.square(y - vectors()).sum() / np.square(vectors()).sum(), rtol=1e-5
    )
    np.testing.assert_array_equal(found.statistics["counts"], np.bincount(ids.reshape(-1), minlength=12))


def test_what_was_released():
    """The mean of the codes nearest to the normed vector; the error summed over features."""
    found, _, _ = compiled("codebook as released")[0](vectors(), np.ones(ROWS, np.float32))
    x = vectors().astype(np.float64)
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    ids, y = formula(normed, codes_of("codebook as released"), 3)
    np.testing.assert_array_equal(found.codes, ids)
    np.testing.assert_allclose(found.values, y / 3, atol=1e-5)
    loss = np.square(y / 3 - normed).sum(-1).mean()
    np.testing.assert_allclose(found.losses["reconstruction"].value, loss, rtol=1e-5)


def test_gradients():
    """The vectors get the upstream gradient exactly, and none of the loss; chosen codes get both, others nothing."""
    x, up = vectors(), vectors(1)
    found, _, (params, dx) = compiled("codebook")[0](x, np.ones(ROWS, np.float32))
    np.testing.assert_array_equal(dx, up)
    ids, y = formula(x, codes_of(), 3)
    expected = np.zeros((12, WIDTH))
    for row in range(ROWS):
        expected[ids[row]] += up[row] + 2 * (y[row] - x[row]) / (ROWS * WIDTH)
    np.testing.assert_allclose(params["codes"], expected, atol=1e-5)
    unchosen = np.setdiff1d(np.arange(12), found.codes)
    few = quantized(Codebook(codes=40), x).codes
    assert len(unchosen) or len(np.unique(few)) < 40
    graph, params, buffers = build(Codebook(codes=40))
    grads = tiny.jit(jax.grad(lambda p: jnp.sum(merge(graph, p, buffers).quantize(jnp.asarray(x)).values * up)))(
        params
    )["codes"]
    np.testing.assert_array_equal(grads[np.setdiff1d(np.arange(40), few)], 0.0)


def test_the_loss_by_finite_differences():
    x, (graph, params, buffers) = jnp.asarray(vectors()), compiled("codebook")[1]
    of = lambda p: merge(graph, p, buffers).quantize(x).losses["reconstruction"].value  # noqa: E731
    loss, grads = tiny.jit(of), tiny.jit(jax.grad(of))(params)["codes"]
    code = int(compiled("codebook")[0](x, np.ones(ROWS, np.float32))[0].codes[0, 0])
    for feature in (0, 5):
        step = jnp.zeros_like(params["codes"]).at[code, feature].set(1e-2)
        high, low = (loss({**params, "codes": params["codes"] + sign * step}) for sign in (1, -1))
        np.testing.assert_allclose((high - low) / 2e-2, grads[code, feature], atol=2e-4)


def test_the_scale_of_a_vector_chooses_nothing():
    scale = np.exp(3 * vectors(4)[:, :1])
    fn = compiled("codebook")[0]
    every = np.ones(ROWS, np.float32)
    np.testing.assert_array_equal(fn(vectors() * scale, every)[0].codes, fn(vectors(), every)[0].codes)
    far = quantized(Codebook(codes=12, k=3, metric="l2"), vectors() * scale).codes
    assert (far != quantized(Codebook(codes=12, k=3, metric="l2"), vectors()).codes).any()


def test_all_codes_are_a_constant_and_one_code_is_that_code():
    x = vectors()
    every = quantized(Codebook(codes=5, k=5), x).values  # summed in the order of likeness: but for rounding
    constant = build(Codebook(codes=5))[1]["codes"].sum(0)
    np.testing.assert_allclose(every, np.broadcast_to(constant, every.shape), atol=1e-6)
    one = quantized(Codebook(codes=1), x)
    np.testing.assert_array_equal(one.values, np.broadcast_to(build(Codebook(codes=1))[1]["codes"], x.shape))
    assert float(one.metrics["bits"].value) == 0


def test_heads_are_independent_codebooks():
    """Values, codes, gradients and sums of H codebooks of their own; the loss is their mean."""
    x = vectors(rows=10, width=12).reshape(2, 5, 3, 4)
    part = PerHead(SPEC).build_at((3, 4), ParamFactory(jax.random.key(0), FanIn()))
    graph, params, buffers = split(part)
    assert len({float(value) for value in params["each"]["codes"][:, 0, 0]}) == 3
    found = called((graph, params, buffers), x)
    assert found.codes.shape == (2, 5, 3, 3)
    alone_graph, _, _ = build(SPEC, 4)
    losses = []
    new = merge(graph, params, buffers).advance(buffers, found.statistics)["each"]["counts"]
    for head in range(3):
        own = jax.tree.map(lambda leaf: leaf[head], (params["each"], buffers["each"]))  # noqa: B023
        alone = called((alone_graph, *own), x[:, :, head])
        np.testing.assert_array_equal(found.values[:, :, head], alone.values)
        np.testing.assert_array_equal(found.codes[:, :, head], alone.codes)
        np.testing.assert_array_equal(found.statistics["each"]["counts"][head], alone.statistics["counts"])
        np.testing.assert_allclose(new[head], 0.99 + 0.01 * alone.statistics["counts"], rtol=1e-6)
        losses.append(alone.losses["reconstruction"].value)
    np.testing.assert_allclose(found.losses["reconstruction"].value, np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(found.metrics["bits"].value, 3 * alone.metrics["bits"].value, rtol=1e-6)


def test_groups_are_parts_of_a_vector():
    x = vectors()
    found = quantized(Grouped(SPEC, groups=2), x)
    cut = x.reshape(ROWS, 2, 4)
    part = PerHead(SPEC).build_at((2, 4), ParamFactory(jax.random.key(0), FanIn()))
    heads = called(split(part), cut)
    np.testing.assert_array_equal(found.values, heads.values.reshape(x.shape))
    np.testing.assert_array_equal(found.codes, heads.codes)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_nearest_codes_in_blocks(metric):
    """Of any number of vectors, with any room for scores, those of a sort by numpy."""
    x, codes = vectors(rows=35, width=5).reshape(5, 7, 5), 2 * vectors(2, rows=11, width=5)
    gap = np.square(x[:, :, None] - codes).sum(-1)
    if metric == "cosine":
        gap = -(x @ codes.T) / np.linalg.norm(codes, axis=-1)
    for k, limit in ((1, None), (4, None), (1, 40), (4, 1)):
        found = tiny.jit(functools.partial(nearest, metric=metric, k=k, limit=limit))(x, codes)
        np.testing.assert_array_equal(found, np.argsort(gap, axis=-1)[..., :k])
    same = np.ones((4, 5), np.float32)
    np.testing.assert_array_equal(nearest(jnp.asarray(x), jnp.asarray(same), metric), 0)  # of equals the first


@pytest.mark.parametrize(("compat", "together"), [("paper", np.mean), ("code", np.sum)])
def test_the_error_of_groups_is_that_of_the_whole_vector(compat, together):
    """A mean over features of the whole is the mean over groups; the released sum over features adds up."""
    graph, params, buffers = build(Grouped(Codebook(codes=5, k=2, compat=compat), 3), 12)
    x = vectors(rows=20, width=12)
    whole = called((graph, params, buffers), x).losses["reconstruction"].value
    alone, _, _ = build(Codebook(codes=5, k=2, compat=compat), 4)

    def of(one):
        state = (jax.tree.map(lambda leaf: leaf[one], tree["each"]) for tree in (params, buffers))
        return called((alone, *state), x[:, 4 * one : 4 * (one + 1)]).losses["reconstruction"].value

    np.testing.assert_allclose(whole, together([of(one) for one in range(3)]), rtol=1e-5)

"""Stages: what trains their parameters, how they are counted, how they begin, and what cannot be one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.finite_scalar import FiniteScalar
from arch.bottlenecks.gumbel import GumbelSoftmax
from arch.bottlenecks.lookup_free import LookupFree
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped
from arch.bottlenecks.top_k import TopK
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.params import merge
from arch.spec import SpecError
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import ROWS, WIDTH, build, called, vectors


@pytest.mark.parametrize(
    "each",
    [FiniteScalar(levels=(4, 3)), LookupFree(binary=3), GumbelSoftmax(codes=6), Codebook(codes=12, k=2)],
    ids=lambda each: type(each).__name__,
)
def test_a_stage_learns_from_its_part_of_the_sum(each):
    """As it would alone, before what the stages before it have left; the vectors get the gradient once."""
    graph, params, buffers = build(Residual(each, stages=2))
    up = vectors(1)

    def values(params, x):
        return jnp.sum(merge(graph, params, buffers).quantize(x, training=True).values * up)

    grads, dx = tiny.jit(jax.grad(values, (0, 1)))(params, vectors())
    np.testing.assert_allclose(dx, up, atol=1e-6)
    rest = jnp.asarray(vectors())
    for name in ("0", "1"):
        single, own, held = build(each)
        assert jax.tree.structure(own) == jax.tree.structure(params["stages"][name])
        held = buffers.get("stages", {}).get(name, held)

        def alone(own, x, single=single, held=held):
            found = merge(single, own, held).quantize(x, training=True).values
            return jnp.sum(found * up), found

        expected, found = tiny.jit(jax.grad(alone, has_aux=True))(params["stages"][name], rest)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), grads["stages"][name], expected
        )
        assert max(float(jnp.abs(one).max()) for one in jax.tree.leaves(expected)) > 1e-2
        rest = rest - found


SHAPES = {
    "one stage": (Residual(VectorQuantized(codes=4), stages=1), (1, 4)),
    "three stages": (Residual(VectorQuantized(codes=4), stages=3), (3, 4)),
    "several of each": (Residual(Codebook(codes=6, k=2), stages=3), (3, 6)),
    "groups in stages": (Residual(Grouped(VectorQuantized(codes=4), 2), stages=3), (2, 3, 4)),
    "stages in groups": (Grouped(Residual(VectorQuantized(codes=4), stages=3), 2), (2, 3, 4)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_bits_of_all_stages_and_groups(name):
    """Equally frequent codes take as many bits as the ceiling, one frequent code of each set none."""
    spec, shape = SHAPES[name]
    part = merge(*build(spec))
    np.testing.assert_allclose(part.bits(jnp.ones(shape)), part.bits(), rtol=1e-6)
    np.testing.assert_allclose(part.bits(jnp.zeros(shape).at[..., 0].set(1.0)), 0, atol=1e-6)


def test_groups_in_stages_begin_with_centres():
    """Every stage has the codes of what those before it leave, and keeps what its groups have besides."""
    spec = Residual(Grouped(VectorQuantized(codes=3), 2), stages=2)
    graph, params, buffers = build(spec)
    part, x = merge(graph, params, buffers), jnp.asarray(vectors(rows=ROWS * 4))
    found = part.fitted(x, jnp.ones(len(x)), jax.random.key(0), 20)
    stages = found["buffers"]["stages"]
    rest = np.asarray(x).reshape(-1, 2, WIDTH // 2)
    for name in "01":
        codes = np.asarray(stages[name]["each"]["codes"])
        near = np.argmin(np.sum(np.square(rest[:, :, None] - codes), axis=-1), axis=-1)
        for group in range(2):
            for code in np.unique(near[:, group]):
                mine = rest[:, group][near[:, group] == code]
                np.testing.assert_allclose(codes[group, code], mine.mean(0), atol=1e-4)
        rest = rest - np.stack([codes[group][near[:, group]] for group in range(2)], axis=1)


def test_sparse_codes_make_no_stages():
    sparse = TopK(codes=16, k=3)
    for each in (sparse, Grouped(sparse, 2), Grouped(Grouped(sparse, 2), 2)):
        with pytest.raises(SpecError, match=r"each=.* must be a quantiser, whose codes have no amplitudes"):
            build(Residual(each, stages=2))


def test_errors_of_the_groups_of_stages_add_up():
    """Where they are sums over features, as the authors' are."""
    each = Codebook(codes=6, k=2, compat="code")
    state = build(Grouped(Residual(each, stages=1), 2))
    found = called(state, vectors()).losses
    graph, own, held = build(each, WIDTH // 2)
    wanted = 0.0
    for group in range(2):
        part = lambda tree: jax.tree.map(lambda leaf: leaf[group], tree["each"]["stages"]["0"])  # noqa: B023, E731
        assert jax.tree.structure((part(state[1]), part(state[2]))) == jax.tree.structure((own, held))
        x = vectors()[:, group * WIDTH // 2 : (group + 1) * WIDTH // 2]
        one = called((graph, part(state[1]), part(state[2])), x).losses
        wanted += sum(float(loss.value) for loss in one.values())
    assert wanted > 0
    np.testing.assert_allclose(sum(float(loss.value) for loss in found.values()), wanted, rtol=1e-5)

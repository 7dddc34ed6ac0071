"""What holds of every quantiser: padding counts nowhere, sums add up, codes say all, nothing becomes no number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.params import merge
from tests.arch.bottlenecks.quantisers import ROWS, TABLE, called, compiled, vectors

each = pytest.mark.parametrize("name", TABLE)
EVERY = np.ones(ROWS, np.float32)


def finite(tree):
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(tree))


def sums(found):
    """All that adds up over rows: all but what is coupled, and the least amplitude that stays in a batch."""
    kinds = {**found.losses, **{f"metric {name}": one for name, one in found.metrics.items()}}
    told = {name: (one.total, one.weight) for name, one in kinds.items() if not one.coupled}
    statistics = {name: one for name, one in found.statistics.items() if name != "least"}
    return jax.tree.map(np.asarray, (told, statistics))


@each
def test_rows_add_up_and_padding_counts_nowhere(name):
    fn, _ = compiled(name)
    x, first = vectors(), (np.arange(ROWS) < 5).astype(np.float32)
    whole, one, two = (fn(x, weights)[0] for weights in (EVERY, first, 1 - first))
    together = jax.tree.map(np.add, sums(one), sums(two))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), sums(whole), together)
    other = np.where(first[:, None] > 0, x, 100 * vectors(3))
    again = fn(other, first)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), sums(one), sums(again))
    losses = [{key: loss.value for key, loss in found.losses.items()} for found in (one, again)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *losses)
    assert set(whole.metrics) >= {"usage", "perplexity", "dead", "error", "bits"}


@each
def test_writing_the_codes_that_are_there_changes_nothing(name):
    """Bit for bit; other codes make other values."""
    fn, _ = compiled(name)
    found, again, _ = fn(vectors(), EVERY)
    np.testing.assert_array_equal(found.values, again.values)
    np.testing.assert_array_equal(found.codes, again.codes)
    assert found.codes.dtype == jnp.int32
    _, other, _ = fn(vectors(), EVERY, other=True)
    assert (np.abs(other.values - found.values).max(axis=-1) > 1e-3).all()


@each
@pytest.mark.parametrize("case", ["alike", "zero", "large", "no row counts"])
def test_no_input_makes_it_no_number(name, case):
    x = {"alike": np.broadcast_to(vectors()[:1], (ROWS, 8)), "zero": np.zeros((ROWS, 8)), "large": 1e6 * vectors()}
    weights = EVERY if case in x else np.zeros_like(EVERY)
    fn, (graph, params, buffers) = compiled(name)
    found, _, grads = fn(np.asarray(x.get(case, vectors()), np.float32), weights)
    assert finite((found, grads))
    if case == "alike":
        assert (found.codes == found.codes[:1]).all()
    state = merge(graph, params, buffers).advance(buffers, found.statistics)
    assert finite(state)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, buffers)


@each
def test_bfloat16_in_bfloat16_out(name):
    fn, (graph, params, buffers) = compiled(name)
    x = jnp.asarray(vectors(), jnp.bfloat16)
    found, wide = called((graph, params, buffers), x), fn(x.astype(jnp.float32), EVERY)[0]
    assert found.values.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((found.losses, found.metrics)))
    if "released" not in name and "grouped" not in name:  # which norm in the type that comes
        np.testing.assert_array_equal(found.codes, wide.codes)
        np.testing.assert_allclose(found.values.astype(jnp.float32), wide.values, rtol=2e-2, atol=3e-2)


@each
def test_bits_are_at_most_the_ceiling(name):
    graph, params, buffers = compiled(name)[1]
    part = merge(graph, params, buffers)
    found = compiled(name)[0](vectors(), EVERY)[0]
    assert 0 < float(found.metrics["bits"].value) <= float(part.bits()) + 1e-4
    # Nothing was counted yet: every code equally often.
    np.testing.assert_allclose(found.metrics["perplexity"].value, jax.tree.leaves(buffers["counts"])[0].size
                               if "counts" in buffers else found.metrics["perplexity"].value, rtol=1e-5)  # fmt: skip
    assert float(found.metrics["usage"].value) == 1

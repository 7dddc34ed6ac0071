"""FSQ and LFQ against numpy formulas, and the entropy of a batch by counting all codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks.finite_scalar import FiniteScalar
from arch.bottlenecks.lookup_free import LookupFree
from arch.params import merge
from arch.spec import SpecError
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import build, quantized, vectors


def test_FSQ_rounds_each_number_to_its_levels():  # noqa: N802
    levels = np.array([5, 4, 2])
    z = 3 * vectors(rows=2000, width=3)
    found = quantized(FiniteScalar(levels=(5, 4, 2)), z)
    half, offset = (levels - 1) * (1 - 1e-3) / 2, np.where(levels % 2 == 1, 0, 0.5)
    bounded = np.tanh(z.astype(np.float64) + np.tan(offset / half)) * half - offset
    y = np.round(bounded) / (levels // 2)
    np.testing.assert_allclose(found.values, y, atol=1e-6)
    digits = np.round(bounded).astype(int) + levels // 2
    assert (digits.min(0) == 0).all()
    assert (digits.max(0) == levels - 1).all()
    np.testing.assert_array_equal(found.codes[:, 0], digits @ [1, 5, 20])
    assert len(np.unique(found.codes)) == 40
    np.testing.assert_allclose(found.values[found.codes[:, 0].argmin()], [-1, -1, -1], atol=1e-6)
    part = merge(*build(FiniteScalar(levels=(5, 4, 2)), 3))
    dx = tiny.jit(jax.grad(lambda z: jnp.sum(part.quantize(z).values)))(z)
    slope = (1 - np.tanh(z + np.tan(offset / half)) ** 2) * half / (levels // 2)
    np.testing.assert_allclose(dx, slope, atol=1e-5)
    assert found.losses == {}


def test_LFQ_takes_signs_and_weighs_entropies():  # noqa: N802
    """In groups as large as all bits the entropy of the batch is that of all codes; in smaller ones an upper bound."""
    z = vectors(rows=50, width=3)
    spec = LookupFree(binary=3, gamma=1.0, temperature=1.0, group=3)
    found = quantized(spec, z)
    np.testing.assert_array_equal(found.values, np.where(z > 0, 1.0, -1.0))
    np.testing.assert_array_equal(found.codes[:, 0], (z > 0) @ [1, 2, 4])
    codes = np.array([[1.0 if code >> bit & 1 else -1.0 for bit in range(3)] for code in range(8)])
    logits = -np.square(z[:, None].astype(np.float64) - codes).sum(-1)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    entropy = lambda p: -(p * np.log(p)).sum(-1)  # noqa: E731
    np.testing.assert_allclose(found.losses["sample_entropy"].value, entropy(p).mean(), rtol=1e-5)
    np.testing.assert_allclose(found.losses["batch_entropy"].value, -entropy(p.mean(0)), rtol=1e-5)
    assert found.losses["batch_entropy"].coupled
    apart = quantized(LookupFree(binary=3, gamma=1.0, temperature=1.0, group=1), z).losses["batch_entropy"].value
    assert apart < found.losses["batch_entropy"].value
    gap = 0.25 * np.square(z - np.where(z > 0, 1, -1)).mean()
    np.testing.assert_allclose(found.losses["commitment"].value, gap, rtol=1e-5)
    part = merge(*build(spec, 3))
    dx = tiny.jit(jax.grad(lambda z: jnp.sum(part.quantize(z).values * vectors(1, 50, 3))))(z)
    np.testing.assert_allclose(dx, vectors(1, 50, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: FiniteScalar(levels=(1, 4)), "must be numbers of at least 2"),
        (lambda: FiniteScalar(levels=(4096, 4097)), "product at most"),
        (lambda: LookupFree(binary=25), "must be between 1 and 24"),
    ],
)
def test_refusals(make, line):
    with pytest.raises(SpecError, match=line):
        make()

"""Sampling: the kept sets against a plain reference, and drawn frequencies against the probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.decode.sampling import Greedy, Sample
from arch.spec import SpecError

V = 12
LOGITS = jnp.asarray(2 * np.random.default_rng(0).standard_normal((5, V)), jnp.float32)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def reference(logits, temperature, top_k, top_p):
    """Probabilities [V]: tempered, cut to the top_k, then to the nucleus, by sorting and adding up."""
    p = softmax(np.asarray(logits, np.float64) / temperature)
    order = np.argsort(-p)
    kept = list(order[: top_k or V])
    if top_p is not None:
        q, nucleus, total = p[kept] / p[kept].sum(), [], 0.0
        for token, probability in zip(kept, q, strict=True):
            nucleus.append(token)
            total += probability
            if total >= top_p:
                break
        kept = nucleus
    out = np.zeros(V)
    out[kept] = p[kept] / p[kept].sum()
    return out


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 1, 4, V, 100])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.3, 0.9, 1.0])
def test_kept_sets(temperature, top_k, top_p):
    filtered = np.asarray(Sample(temperature, top_k, top_p).filtered(LOGITS))
    for ours, logits in zip(filtered, LOGITS, strict=True):
        np.testing.assert_allclose(softmax(ours), reference(logits, temperature, top_k, top_p), atol=1e-6)


def test_a_nucleus_of_one_cuts_nothing():
    """Sums of 32,768 probabilities reach 1 in float32 before the last ones are added."""
    logits = 8 * np.random.default_rng(3).standard_normal((4, 32_768)).astype(np.float32)
    assert np.isfinite(Sample(top_p=1.0).filtered(jnp.asarray(logits))).all()


@pytest.mark.parametrize("top_p", [1e-3, 0.4, 0.9, 0.999, 0.99999])
def test_a_nucleus_of_many_tokens_is_the_smallest_that_reaches_it(top_p):
    logits = 4 * np.random.default_rng(4).standard_normal((3, 32_768)).astype(np.float32)
    kept = np.isfinite(Sample(top_p=top_p).filtered(jnp.asarray(logits))).sum(axis=1)
    for count, row in zip(kept, logits, strict=True):
        p = -np.sort(-softmax(row.astype(np.float64)))
        assert abs(count - (np.searchsorted(np.cumsum(p), top_p) + 1)) <= max(2, 1e-3 * count)


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38, 1e-40, 1e-300])
def test_a_temperature_near_zero_is_greedy(temperature):
    for sampler in (Sample(temperature), Sample(temperature, top_p=0.9), Sample(temperature, top_k=3)):
        tokens = sampler(1e3 * LOGITS, jax.random.key(0))
        np.testing.assert_array_equal(tokens, np.asarray(LOGITS).argmax(axis=-1))
    masked = jnp.where(jnp.arange(V) == 4, 1.0, -jnp.inf)[None]
    assert Sample(temperature)(masked, jax.random.key(0)).tolist() == [4]


def test_ties_are_kept():
    logits = jnp.array([[1.0, 2.0, 2.0, 0.0]])
    assert np.isfinite(Sample(top_k=1).filtered(logits)).tolist() == [[False, True, True, False]]
    assert np.isfinite(Sample(top_p=0.1).filtered(logits)).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("sampler", [Sample(), Sample(temperature=0.7, top_k=5), Sample(top_p=0.8)])
def test_frequencies_are_the_probabilities(sampler):
    """Chi-square of 20 000 draws below its 99.99th percentile; nothing drawn that was cut."""
    draws = 20_000
    logits = jnp.broadcast_to(LOGITS[:1], (draws, V))
    tokens = np.asarray(jax.jit(sampler)(logits, jax.random.key(1)))
    assert tokens.dtype == np.int32
    expected = draws * reference(LOGITS[0], sampler.temperature, sampler.top_k, sampler.top_p)
    observed = np.bincount(tokens, minlength=V)
    assert (observed[expected == 0] == 0).all()
    kept = expected > 0
    chi_square = ((observed[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    percentile = {12: 37.4, 5: 23.6}.get(int(kept.sum()), 37.4)  # For 11, 4 and at most 11 degrees of freedom.
    assert chi_square < percentile


def test_greedy_takes_the_largest():
    np.testing.assert_array_equal(Greedy()(LOGITS, jax.random.key(0)), np.asarray(LOGITS).argmax(axis=-1))


def test_rows_are_drawn_independently():
    tokens = np.asarray(Sample()(jnp.zeros((200, V)), jax.random.key(0)))
    assert len(set(tokens.tolist())) == V


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("temperature", lambda: Sample(temperature=0.0)),
        ("top_k", lambda: Sample(top_k=0)),
        ("top_p", lambda: Sample(top_p=0.0)),
        ("top_p", lambda: Sample(top_p=1.5)),
    ],
)
def test_impossible_samplers_are_refused(field, make):
    with pytest.raises(SpecError, match=rf"Sample\.{field}="):
        make()

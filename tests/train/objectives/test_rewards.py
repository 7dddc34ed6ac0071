"""GLEU: by hand, symmetric, 1 of a sentence and itself; in the compiled program as on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.spec import SpecError
from train.objectives.rewards import GLEU, gleu


def compiled(hypotheses, references, order=4, fill=0):
    """Rows of unequal lengths, filled up with a token that occurs in them."""

    def padded(rows):
        table = np.full((len(rows), max(map(len, rows)) + 2), fill, np.int32)
        for row, tokens in enumerate(rows):
            table[row, : len(tokens)] = tokens
        return jnp.asarray(table), jnp.asarray([len(row) for row in rows], jnp.int32)

    return np.asarray(jax.jit(GLEU(order))(*padded(hypotheses), *padded(references)))


def test_a_sentence_by_hand():
    """the cat sat | the cat sat down: 3 + 2 + 1 n-grams of 3 and 4 + 3 + 2 + 1 of 4 words match in 6: 6 / 10.
    a a a | a a: 1-grams 2 of 3, 2-grams 1 of 2, one 3-gram more: 3 / 6."""
    assert gleu(["the", "cat", "sat"], ["the", "cat", "sat", "down"]) == pytest.approx(0.6)
    assert gleu("aaa", "aa") == pytest.approx(0.5)
    assert gleu("abc", "def") == 0
    assert gleu("cba", "abc") == pytest.approx(0.5)  # the words alone match
    assert (gleu("", ""), gleu("a", "")) == (1.0, 0.0)


def test_the_compiled_one_is_that_of_the_host():
    """Few kinds of tokens, so that n-grams repeat; empty rows too."""
    rng = np.random.default_rng(0)
    rows = [list(map(int, rng.integers(0, 3, size))) for size in (*rng.integers(0, 9, 60), 0, 0)]
    others = [list(map(int, rng.integers(0, 3, size))) for size in (*rng.integers(0, 9, 60), 0, 4)]
    for order in (4, 2):
        expected = [gleu(a, b, order) for a, b in zip(rows, others, strict=True)]
        np.testing.assert_allclose(compiled(rows, others, order), expected, rtol=1e-6)
    np.testing.assert_array_equal(compiled(rows, others), compiled(others, rows))
    np.testing.assert_array_equal(compiled(rows, rows), 1)
    np.testing.assert_array_equal(compiled(rows, others), compiled(rows, others, fill=2))


def test_no_ngrams_are_refused():
    with pytest.raises(SpecError, match="order=0: must be at least 1"):
        GLEU(order=0)

"""Embeddings may start apart from the rest."""

import jax
import numpy as np
import pytest

from arch.layers.init.embedding import RELEASED_STD, EmbeddingInit
from arch.layers.init.initializers import ROLES, Normal, ScaledInit
from arch.spec import SpecError


@pytest.mark.parametrize("role", ROLES)
def test_only_embeddings_change(role):
    base = ScaledInit(Normal(0.02))
    init = EmbeddingInit(base, RELEASED_STD)
    where = {"role": role, "fan_in": 64, "depth": 8, "layer": 1}
    value, plain = (fn(jax.random.key(0), (64, 400), **where) for fn in (init, base))
    if role in ("embedding", "position"):
        np.testing.assert_allclose(value, plain * (RELEASED_STD / 0.02), rtol=1e-6)
        assert init.describe(role) == f"EmbeddingInit({RELEASED_STD})"
    else:
        np.testing.assert_array_equal(value, plain)
        assert init.describe(role) == base.describe(role)


def test_the_released_std():
    assert pytest.approx(0.632, abs=1e-3) == RELEASED_STD
    with pytest.raises(SpecError, match=r"EmbeddingInit\.std"):
        EmbeddingInit(std=0.0)

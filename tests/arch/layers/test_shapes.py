"""Products against numpy, with their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.shapes import contract
from arch.layers.upright import ALIASED
from tests.arch import tiny

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5, 2, 8)).astype(np.float32)
COLUMNS = [6, ALIASED]


def kernel(columns: int) -> jax.Array:
    return jnp.asarray(RNG.standard_normal((2, 8, 2, columns // 2)) / 4, jnp.float32)


@pytest.mark.parametrize("columns", COLUMNS)
def test_product_and_gradients_in_numpy(columns):
    w = kernel(columns)
    dy = RNG.standard_normal((3, 5, 2, columns // 2)).astype(np.float32)
    y, pull = jax.vjp(lambda x, w: contract(x, w, 2), jnp.asarray(X), w)
    dx, dw = pull(jnp.asarray(dy))
    tiny.close(y, np.einsum("btnk,nkij->btij", X, w))
    tiny.close(dx, np.einsum("btij,nkij->btnk", dy, w))
    tiny.close(dw, np.einsum("btnk,btij->nkij", X, dy))

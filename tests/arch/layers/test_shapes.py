"""Products against numpy and against the plain product, with their derivatives in both modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import shapes
from arch.layers.shapes import ALIASED, contract
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


@pytest.mark.parametrize("which", [0, 1, (0, 1)])
def test_the_upright_form_is_the_plain_one(which, monkeypatch):
    """Also differentiated twice, in forward mode, and under vmap; and it is the one in use."""
    w = kernel(ALIASED)[None] * jnp.asarray([1.0, -0.5], jnp.float32)[:, None, None, None, None]
    x = jnp.asarray(X)

    def everything(x, w):
        y = lambda x, w: jnp.sum(jnp.sin(contract(x, w, 2)))  # noqa: E731
        gradient = jax.grad(y, which)
        _, tangent = jax.jvp(gradient, (x, w), (x, w))
        return gradient(x, w), tangent

    def program():
        one = jax.jit(jax.vmap(lambda x, w: everything(x, w), (None, 0)))
        return str(jax.make_jaxpr(one)(x, w)), one(x, w)

    text, upright = program()
    monkeypatch.setattr(shapes, "_upright", shapes._product)
    plain_text, plain = program()
    assert "optimization_barrier" in text
    assert "optimization_barrier" not in plain_text
    for a, b in zip(jax.tree.leaves(upright), jax.tree.leaves(plain), strict=True):
        tiny.close(a, b)

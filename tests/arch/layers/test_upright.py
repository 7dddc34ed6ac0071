"""The upright product against the plain one, with their derivatives in both modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import upright
from arch.layers.shapes import contract
from tests.arch import tiny

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5, 2, 8)).astype(np.float32)


@pytest.mark.parametrize("which", [0, 1, (0, 1)])
def test_the_upright_form_is_the_plain_one(which, monkeypatch):
    """Also differentiated twice, in forward mode, and under vmap; and it is the one in use."""
    kernel = jnp.asarray(RNG.standard_normal((2, 8, 2, upright.ALIASED // 2)) / 4, jnp.float32)
    w = kernel[None] * jnp.asarray([1.0, -0.5], jnp.float32)[:, None, None, None, None]
    x = jnp.asarray(X)

    def everything(x, w):
        y = lambda x, w: jnp.sum(jnp.sin(contract(x, w, 2)))  # noqa: E731
        gradient = jax.grad(y, which)
        _, tangent = jax.jvp(gradient, (x, w), (x, w))
        return gradient(x, w), tangent

    def program():
        one = jax.jit(jax.vmap(lambda x, w: everything(x, w), (None, 0)))
        return str(jax.make_jaxpr(one)(x, w)), one(x, w)

    text, found = program()
    monkeypatch.setattr(upright, "upright", upright.plain)
    plain_text, expected = program()
    assert "optimization_barrier" in text
    assert "optimization_barrier" not in plain_text
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        tiny.close(a, b)

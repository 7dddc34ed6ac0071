"""Kernels of rows alone, under vmap: the same numbers as one call a member, and one call for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.folded import folded
from tests.arch import tiny

RNG = np.random.default_rng(0)
R, B, T, D = 3, 2, 4, 5
X, Y = (jnp.asarray(RNG.standard_normal((R, B, T, D)), jnp.float32) for _ in range(2))
IDS = jnp.asarray(RNG.integers(0, 2, (R, B, T)), jnp.int32)


def kernel(calls):
    """Rows of x against rows of y where ids are equal; it notes the shapes that it is called with."""

    @jax.custom_vjp  # as kernels are: with a derivative of their own, and residuals of which one has no rows
    def scaled(x, y):
        return x * y

    scaled.defvjp(
        lambda x, y: (x * y, (x, y, jnp.zeros((0,)), jnp.float32(1.0))), lambda kept, dz: (dz * kept[1], dz * kept[0])
    )

    def fn(x, y, ids):
        calls.append(x.shape)
        z = jnp.sin(scaled(x, y))
        return z if ids is None else jnp.where((ids > 0)[..., None], z, jnp.float32(0.0))

    return fn


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("mapped", [(0, 0), (0, None), (None, 0)])
def test_values_and_gradients_are_those_of_each_member(mapped, ids):
    calls = []
    told = (X if mapped[0] == 0 else X[0], Y if mapped[1] == 0 else Y[0])
    axes = (*mapped, 0 if ids else None)

    def value(fn, x, y, i):
        return jnp.sum(jnp.square(fn(x, y, i)))

    def all_of(fn):
        one = jax.value_and_grad(lambda x, y, i: value(fn, x, y, i), argnums=(0, 1))
        return jax.jit(jax.vmap(one, axes))(*told, IDS if ids else None)

    found, expected = all_of(folded(kernel(calls))), all_of(kernel([]))
    jax.tree.map(tiny.close, found, expected)
    assert (R * B, T, D) in calls


def test_two_vmaps_and_the_derivative_of_one_row_after_another():
    fn = kernel([])
    pairs = jnp.stack([X, Y])
    twice = jax.vmap(jax.vmap(jax.grad(lambda x, y: jnp.sum(folded(fn)(x, y, None))), (0, None)), (0, None))
    expected = jax.vmap(jax.vmap(jax.grad(lambda x, y: jnp.sum(fn(x, y, None))), (0, None)), (0, None))
    tiny.close(twice(pairs, Y[0]), expected(pairs, Y[0]))
    jacobian = jax.jacrev(lambda x: folded(fn)(x, Y[0], IDS[0]))(X[0])
    tiny.close(jacobian, jax.jacrev(lambda x: fn(x, Y[0], IDS[0]))(X[0]))


def test_a_number_of_each_member_cannot_be_folded():
    scaled = folded(lambda x, by: x * by)
    with pytest.raises(ValueError, match="a number of each member has no rows"):
        jax.vmap(scaled)(X, jnp.arange(3.0))
    tiny.close(jax.vmap(scaled, (0, None))(X, jnp.float32(2.0)), 2 * X)


def test_rematerialised_in_a_loop():
    def through(fn):
        body = jax.checkpoint(lambda x, y: (fn(x, y, IDS[0]), None))
        return jax.jit(jax.vmap(jax.grad(lambda x: jnp.sum(jax.lax.scan(body, x, Y)[0]))))(X)

    tiny.close(through(folded(kernel([]))), through(kernel([])))

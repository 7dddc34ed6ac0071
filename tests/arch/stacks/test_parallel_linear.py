"""Parallel-shallow stacks of linear blocks, whose products can be written out."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.context import Context, Result
from arch.layers.init.initializers import Normal
from arch.params import ParamFactory
from arch.stacks import Sequential
from arch.stacks.parallel import Grouped, ParallelStack

B, T = 2, 6


@dataclasses.dataclass(frozen=True)
class Linear(PreNorm):
    """x + F x, and nothing else."""

    def build(self, width, make):
        return LinearLayer(width, make)


class LinearLayer(nnx.Module):
    def __init__(self, width, make):
        self.kernel = make.weight("kernel", [(width, "embed")], [(width, None)])

    def __call__(self, x, ctx):
        return Result(x + x @ self.kernel[...])


def linear_stack(stack, kernels, x):
    """The output of `stack` of linear blocks with these kernels [L, D, D] on x [B, D], in float64."""
    depth, width, _ = kernels.shape
    with jax.enable_x64(True):
        module = stack.build(Linear(), width, depth, ParamFactory(jax.random.key(0), Normal(1.0), depth))
        module.blocks.kernel = nnx.Param(jnp.asarray(kernels), axes=("layers", "embed", None))
        places = np.zeros((1, 1), np.int32)
        y, _ = module(jnp.asarray(x), Context(places, None, places, None))
        return np.asarray(y)


def draw_kernels(depth, width=5, scale=1.0):
    rng = np.random.default_rng(depth)
    return scale * rng.standard_normal((depth, width, width)), rng.standard_normal((3, width))


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_sequential_minus_parallel_is_the_sum_of_all_products_of_two_or_more(depth):
    kernels, x = draw_kernels(depth)
    products = np.zeros_like(x)
    for count in range(2, depth + 1):
        for chosen in itertools.combinations(range(depth), count):
            term = x
            for layer in chosen:
                term = term @ kernels[layer]
            products += term
    difference = linear_stack(Sequential(), kernels, x) - linear_stack(ParallelStack(), kernels, x)
    np.testing.assert_allclose(difference, products, rtol=1e-9, atol=1e-9 * max(1, np.abs(products).max()))
    parallel = x + sum(x @ kernel for kernel in kernels)
    np.testing.assert_allclose(linear_stack(ParallelStack(), kernels, x), parallel, rtol=1e-12, atol=1e-12)


def test_groups_are_products_of_sums():
    kernels, x = draw_kernels(6)
    y = x
    for group in kernels.reshape(3, 2, 5, 5):
        y = y + sum(y @ kernel for kernel in group)
    np.testing.assert_allclose(linear_stack(Grouped(groups=3), kernels, x), y, rtol=1e-12)


def test_the_difference_is_of_second_order():
    """Halving the modules divides it by 4, and its coefficient is the sum of all products of two."""
    kernels, x = draw_kernels(5)

    def difference(scale):
        return linear_stack(Sequential(), scale * kernels, x) - linear_stack(ParallelStack(), scale * kernels, x)

    first, second = difference(1e-3), difference(5e-4)
    assert np.linalg.norm(first) / np.linalg.norm(second) == pytest.approx(4, rel=0.05)
    pairs = sum(x @ kernels[k] @ kernels[j] for k, j in itertools.combinations(range(5), 2))
    np.testing.assert_allclose(second / 5e-4**2, pairs, rtol=0.02, atol=0.02 * np.abs(pairs).max())


def test_root_divides_the_writes_and_not_the_identity():
    kernels, x = draw_kernels(4)
    found = linear_stack(ParallelStack(combine="root"), kernels, x)
    np.testing.assert_allclose(found, x + sum(x @ kernel for kernel in kernels) / 2, rtol=1e-12)

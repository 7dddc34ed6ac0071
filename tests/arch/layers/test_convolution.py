"""Convolution against the sum written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.context import Context
from arch.layers.caches import Room
from arch.layers.convolution import Convolution, as_convolution, as_product
from arch.layers.init.initializers import Normal
from arch.params import ParamFactory, metadata
from arch.spec import SpecError

PLACES = np.zeros((1, 1), np.int32)
CTX = Context(PLACES, None, PLACES, None)


@pytest.mark.parametrize(("kernel", "shape"), [((3, 3), (2, 5, 4, 3)), ((1, 5), (2, 3, 6, 3)), ((3,), (2, 7, 3))])
def test_it_is_the_sum_over_neighbours(kernel, shape):
    """Cross-correlation, zero outside the image, then the bias and ReLU."""
    layer = Convolution(kernel=kernel).build(3, ParamFactory(jax.random.key(0), Normal(0.5)))
    layer.bias[...] = jnp.asarray([0.1, -0.2, 0.3])
    weights, x = np.asarray(layer.kernel[...]), np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert weights.shape == (*kernel, 3, 3)
    margins = [(0, 0), *((size // 2, size // 2) for size in kernel), (0, 0)]
    padded, expected = np.pad(x, margins), np.zeros_like(x)
    for offset in np.ndindex(*kernel):
        window = (slice(None), *(slice(o, o + n) for o, n in zip(offset, shape[1:-1], strict=True)))
        expected += padded[window] @ weights[offset]
    expected = np.maximum(expected + np.array([0.1, -0.2, 0.3]), 0)
    np.testing.assert_allclose(layer(jnp.asarray(x), CTX).x, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (5,), (1, 1)])
def test_the_product_is_the_convolution(kernel):
    """The forms of the platforms, also with kernels of even sizes, and in their gradients."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, *(6, 5)[: len(kernel)], 3)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal((*kernel, 3, 4)), jnp.float32)
    found = []
    for form in (as_product, as_convolution):
        value, gradients = jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(form(x, w))), (0, 1))(x, weights)  # noqa: B023
        found.append((form(x, weights), value, *gradients))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_parameters_and_refusals():
    layer = Convolution().build(3, ParamFactory(jax.random.key(0), Normal(0.5)))
    assert metadata(layer)["kernel"]["role"] == "residual"
    assert metadata(layer)["kernel"]["axes"] == (None, None, None, "embed")
    with pytest.raises(ValueError, match=r"2 spatial axes; its input has the shape \(2, 5, 3\)"):
        layer(jnp.zeros((2, 5, 3)), CTX)
    with pytest.raises(ValueError, match="cannot generate token by token"):
        layer.init_cache(Room(1, 4))
    with pytest.raises(SpecError, match="must be one to three sizes"):
        Convolution(kernel=(3, 0))

"""Norms against torch, gains and biases included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from arch.context import Context
from arch.layers.init.initializers import Normal
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.params import ParamFactory
from arch.spec import SpecError
from tests.arch import tiny

D = 24
CTX = Context(jnp.zeros((1, 1), jnp.int32), None, jnp.zeros((1, 1), jnp.int32), None)
GAIN, BIAS = (np.random.default_rng(seed).standard_normal(D).astype(np.float32) for seed in (1, 2))


def run(spec, x):
    layer = spec.build(D, ParamFactory(jax.random.key(0), Normal()))
    layer.gain[...] = GAIN
    if hasattr(layer, "bias"):
        layer.bias[...] = BIAS
    return layer(jnp.asarray(x), CTX)


@pytest.mark.parametrize("shape", [(2, 3, D), (2, 3, 4, D)])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_torch_agrees(shape, eps):
    x = 3 + 2 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    t, gain, bias = map(torch.from_numpy, (x, GAIN, BIAS))
    functional = torch.nn.functional
    tiny.close(run(RMSNorm(eps=eps), x), functional.rms_norm(t, (D,), gain, eps).numpy())
    tiny.close(run(LayerNorm(eps=eps), x), functional.layer_norm(t, (D,), gain, bias, eps).numpy())
    tiny.close(run(LayerNorm(eps=eps, bias=False), x), functional.layer_norm(t, (D,), gain, None, eps).numpy())


@pytest.mark.parametrize("spec", [RMSNorm(), LayerNorm()])
def test_statistics_are_float32(spec):
    """In bfloat16 the mean square of these would lose most of its digits, and the variance all."""
    x = (100 + np.random.default_rng(0).standard_normal((4, D))).astype(jnp.bfloat16)
    y = run(spec, jnp.asarray(x))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), run(spec, jnp.asarray(x, jnp.float32)), rtol=0.02, atol=0.03)


@pytest.mark.parametrize("spec", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_eps_is_positive(spec, eps):
    with pytest.raises(SpecError, match=rf"{spec.__name__}\.eps=.*: must be (finite and )?greater than 0"):
        spec(eps=eps)

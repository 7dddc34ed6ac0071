"""Feed-forwards and linear maps against torch and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from arch.context import Context
from arch.layers.feed_forward import ACTIVATIONS, MLP, GatedMLP
from arch.layers.init.initializers import FanIn
from arch.layers.linear import Dense
from arch.params import ParamFactory
from tests.arch import tiny

D = 12
CTX = Context(jnp.zeros((1, 1), jnp.int32), None, jnp.zeros((1, 1), jnp.int32), None)
MAKE = ParamFactory(jax.random.key(0), FanIn())
X = np.random.default_rng(0).standard_normal((2, 3, D)).astype(np.float32)
TORCH = {
    "relu": torch.nn.functional.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_torch(name):
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    tiny.close(ACTIVATIONS[name](x), TORCH[name](torch.from_numpy(x)).numpy(), atol=2e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_mlp_formula(bias):
    layer = MLP(hidden=20, activation="gelu_tanh", linear=Dense(bias=bias)).build(D, MAKE)
    up_bias, down_bias = np.zeros(20, np.float32), np.zeros(D, np.float32)
    if bias:
        up_bias, down_bias = np.linspace(-1, 1, 20, dtype=np.float32), np.linspace(-2, 1, D, dtype=np.float32)
        layer.up.bias[...], layer.down.bias[...] = up_bias, down_bias
    up, down = np.asarray(layer.up.kernel[...]), np.asarray(layer.down.kernel[...])
    hidden = TORCH["gelu_tanh"](torch.from_numpy(X @ up + up_bias)).numpy()
    tiny.close(layer(jnp.asarray(X), CTX).x, hidden @ down + down_bias)


def test_gated_formula():
    """W_out (act(W_gate x) * W_in x): the activation is on the gate, not on the other branch."""
    layer = GatedMLP(hidden=20).build(D, MAKE)
    gate, up, down = (np.asarray(part.kernel[...]) for part in (layer.gate, layer.up, layer.down))
    tiny.close(layer(jnp.asarray(X), CTX).x, (TORCH["silu"](torch.from_numpy(X @ gate)).numpy() * (X @ up)) @ down)


@pytest.mark.parametrize(("width", "hidden"), [(12, 32), (32, 88), (768, 2048), (3, 8)])
def test_default_widths(width, hidden):
    gated, plain = (nnx.eval_shape(lambda spec=spec: spec.build(width, MAKE)) for spec in (GatedMLP(), MLP()))
    assert gated.up.kernel.shape == (width, hidden)
    assert plain.up.kernel.shape == (width, 4 * width)


def test_linear_over_several_dimensions():
    layer = Dense(bias=True).build([(3, "heads"), (4, "head_dim")], [(5, "embed"), (2, None)], MAKE, name="any")
    layer.bias[...] = jnp.arange(10.0).reshape(5, 2)
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 4)).astype(np.float32)
    expected = np.einsum("bthk,hkde->btde", x, layer.kernel[...]) + np.arange(10, dtype=np.float32).reshape(5, 2)
    tiny.close(layer(jnp.asarray(x)), expected)
    assert layer.kernel.get_metadata()["axes"] == ("heads", "head_dim", "embed", None)
    np.testing.assert_allclose(float(layer.kernel[...].std()), 12**-0.5, rtol=0.25)  # Fan-in is 3 * 4.

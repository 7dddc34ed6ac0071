"""Classifiers of images: the convolutional residual network and the deep perceptron."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch import cost
from arch.blocks import PreNorm
from arch.context import Gates
from arch.layers.convolution import Convolution
from arch.layers.init.initializers import Normal
from arch.layers.norms.common import NoNorm
from arch.models.base import Inputs
from arch.models.conv_residual import ConvResidual
from arch.models.mlp import DeepMLP
from arch.params import metadata
from arch.stacks import Sequential
from arch.stacks.parallel import Grouped, ParallelStack
from arch.taps import Tap
from tests.arch import tiny

CONV = ConvResidual(image=(5, 4, 2), classes=3, width=4, depth=4)
MLP = DeepMLP(image=(3, 2), classes=4, hidden=7, depth=5, init=Normal(0.5))
IMAGES = np.random.default_rng(0).random((6, 5, 4, 2)).astype(np.float32)


def convolve(x, kernel, bias):
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = x.shape[1:3]
    y = sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    return np.maximum(y + bias, 0)


@pytest.mark.parametrize("stack", [Sequential(), ParallelStack(), Grouped(groups=2), Grouped(groups=2, loop="unroll")])
def test_the_convolutional_network_is_its_formula(stack):
    spec = dataclasses.replace(CONV, stack=stack)
    forward, params = tiny.forward(spec)
    x = convolve(IMAGES, params["stem"]["kernel"], params["stem"]["bias"])
    mixer = params["stack"]["blocks"]["mixer"]
    layers = [(mixer["kernel"][layer], mixer["bias"][layer]) for layer in range(4)]
    groups = {"Sequential": 4, "ParallelStack": 1, "Grouped": 2}[type(stack).__name__]
    for group in range(groups):
        own = layers[group * 4 // groups : (group + 1) * 4 // groups]
        x = x + sum(convolve(x, *layer) for layer in own)
    expected = x.reshape(6, -1) @ params["head"]["kernel"] + params["head"]["bias"]
    found = tiny.jit(lambda p: forward(p, IMAGES).logits)(params)
    tiny.close(found, expected, 1e-4, 1e-4)
    assert found.dtype == jnp.float32


def test_the_papers_sizes():
    """3,794 and 28,970 parameters at 4 and 16 filters on 8 x 8 digits; Q of 1,400 rows."""
    for width, count, ratio in ((4, 3794, 3.7), (16, 28970, 0.48)):
        spec = ConvResidual(image=(8, 8, 1), width=width)
        assert cost.parameters(spec).total == count
        assert cost.parameters(dataclasses.replace(spec, stack=ParallelStack())).total == count
        assert spec.determination(1400, count) == pytest.approx(ratio, abs=0.015)


def test_flops_are_those_of_the_convolutions():
    """The same in either layout: 2 * 9 * D^2 a place and module, the stem and the head."""
    for stack in (Sequential(), ParallelStack()):
        graphdef, params = nnx.split(cost.abstract(dataclasses.replace(CONV, stack=stack)), nnx.Param)
        run = lambda p, x: nnx.merge(graphdef, p)(Inputs(images=x)).logits  # noqa: B023, E731
        image = jax.ShapeDtypeStruct((1, 5, 4, 2), jnp.float32)
        expected = 20 * 2 * (9 * 2 * 4 + 4 * 9 * 4 * 4 + 4 * 3)
        assert cost.flops(run, nnx.to_pure_dict(params), image) == expected


def test_gates_taps_and_dropout_reach_the_modules():
    block = PreNorm(mixer=Convolution(), feed_forward=None, norm=NoNorm(), dropout=0.5)
    spec = dataclasses.replace(CONV, block=block)
    forward, params = tiny.forward(spec)
    open_ = np.array([True, False, True, False])
    gates, tap = Gates(block=open_), Tap(save="attn_out|conv.pre|embed|logits")
    run = tiny.jit(lambda p, key: forward(p, IMAGES, key=key, gates=gates, tap=tap).taps)
    taps = run(params, jax.random.key(0))
    assert taps["conv.pre"].shape == (4, 6, 5, 4, 4)
    assert (run(params, jax.random.key(1))["attn_out"] != taps["attn_out"]).any()
    few = jax.tree.map(lambda leaf: leaf[np.flatnonzero(open_)], params["stack"])
    two, _ = tiny.forward(dataclasses.replace(spec, depth=2))
    expected = tiny.jit(lambda p: two(p, IMAGES).logits)({**params, "stack": few})
    tiny.close(tiny.jit(lambda p: forward(p, IMAGES, gates=gates).logits)(params), expected)


@pytest.mark.parametrize("loop", ["scan", "unroll"])
@pytest.mark.parametrize("depth", [1, 5])
def test_the_perceptron_is_its_formula(loop, depth):
    spec = dataclasses.replace(MLP, loop=loop, depth=depth)
    forward, params = tiny.forward(spec)
    x = np.random.default_rng(1).standard_normal((6, 3, 2)).astype(np.float32)
    h = np.maximum(x.reshape(6, -1) @ params["first"]["kernel"] + params["first"]["bias"], 0)
    for layer in range(depth - 1):
        own = params["layers"]
        h = np.maximum(h @ own["kernel"][layer] + own["bias"][layer], 0)
    expected = h @ params["head"]["kernel"] + params["head"]["bias"]
    tap = Tap(save="mlp.post" if depth > 1 else "mlp.first")
    out = tiny.jit(lambda p: forward(p, x, tap=tap))(params)
    tiny.close(out.logits, expected, 1e-4, 1e-4)
    np.testing.assert_allclose(out.taps[tap.save][-1] if depth > 1 else out.taps[tap.save], h, rtol=1e-4, atol=1e-4)


def test_initialisation_reaches_every_layer_and_layers_differ():
    params = nnx.to_pure_dict(nnx.state(DeepMLP(hidden=50, depth=8).build(rngs=nnx.Rngs(0)), nnx.Param))
    kernels = params["layers"]["kernel"]
    assert kernels.shape == (7, 50, 50)
    np.testing.assert_allclose(np.std(kernels, axis=(1, 2)), 0.1, rtol=0.1)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    assert (params["layers"]["bias"] == 0).all()


@pytest.mark.parametrize("spec", [CONV, MLP], ids=["conv", "mlp"])
def test_parameters_have_axes_the_mesh_knows(spec):
    from train.sharding.axes import AXES

    for path, row in metadata(cost.abstract(spec)).items():
        assert all(axis is None or axis in AXES for axis in row["axes"]), path


@pytest.mark.parametrize("spec", [CONV, MLP], ids=["conv", "mlp"])
def test_half_precision_and_wrong_shapes(spec):
    graphdef, params = nnx.split(cost.abstract(spec), nnx.Param)
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), nnx.to_pure_dict(params))
    x = jax.ShapeDtypeStruct((2, *spec.image), jnp.float32)
    logits = jax.eval_shape(lambda p, x: nnx.merge(graphdef, p)(Inputs(images=x)).logits, half, x)
    assert (logits.shape, logits.dtype) == ((2, spec.classes), jnp.float32)
    with pytest.raises(ValueError, match=r"this model reads"):
        jax.eval_shape(lambda p: nnx.merge(graphdef, p)(Inputs(images=jnp.zeros((2, 9, 9, 1)))).logits, half)

"""Convolutions with stride against XLA's, their transposes by the adjoint, and the sizes that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.image_encoders import ConvDecoder, ConvEncoder, DenseEncoder
from arch.layers.init.initializers import Normal
from arch.models.base import context
from arch.params import ParamFactory
from arch.spec import SpecError
from tests.arch import tiny

RNG = np.random.default_rng(0)
MAKE = ParamFactory(jax.random.key(0), Normal(0.5))


@pytest.mark.parametrize(("height", "width", "kernel"), [(7, 8, 3), (6, 9, 2)])
def test_one_layer_is_xlas_convolution_and_its_decoder_the_adjoint(height, width, kernel):
    """<conv(x), y> = <x, conv^T(y)>, before the activations."""
    spec, image = ConvEncoder((4,), kernel), (height, width, 2)
    encoder, decoder = spec.build(image, MAKE.at("e")), ConvDecoder().build(spec, image, MAKE.at("d"))
    encode = jax.jit(lambda x: encoder(x, context()))
    x = RNG.normal(size=(3, *image)).astype(np.float32)
    weights = encoder.kernels["0"][...]
    layout = ("NHWC", "HWIO", "NHWC")
    plain = jax.lax.conv_general_dilated(x, weights, (2, 2), "SAME", dimension_numbers=layout)
    tiny.close(encode(x), np.maximum(plain, 0).reshape(3, -1), 1e-4, 1e-5)
    assert spec.features(image) == plain[0].size
    decoder.kernels["0"][...] = weights[::-1, ::-1].swapaxes(2, 3)
    y = RNG.normal(size=plain.shape).astype(np.float32)
    again = jax.jit(lambda code: decoder(code))(y.reshape(3, -1))
    assert again.shape == x.shape
    before = np.log(np.asarray(again, np.float64) / (1 - np.asarray(again, np.float64)))  # of the sigmoid
    adjoint = jax.vjp(lambda x: jax.lax.conv_general_dilated(x, weights, (2, 2), "SAME", dimension_numbers=layout), x)
    tiny.close(before, adjoint[1](jnp.asarray(y))[0], 1e-3, 1e-3)


def test_the_papers_sizes():
    """28 x 28 to 2 x 2 x 10 and back; three layers take 8 x 8 to 10 numbers."""
    assert ConvEncoder().features((28, 28, 1)) == 40
    assert ConvEncoder((32, 32, 10)).features((8, 8, 1)) == 10
    decoder = ConvDecoder().build(ConvEncoder((3, 2, 2, 2)), (28, 28, 1), MAKE)
    assert jax.eval_shape(decoder, jax.ShapeDtypeStruct((2, 8), jnp.float32)).shape == (2, 28, 28, 1)


def test_the_dense_encoder_is_its_formula_and_what_is_wrong_is_refused():
    encoder = DenseEncoder(5).build((2, 3, 1), MAKE)
    x = RNG.normal(size=(4, 2, 3, 1)).astype(np.float32)
    expected = np.maximum(x.reshape(4, 6) @ np.asarray(encoder.hidden.kernel[...]), 0)
    tiny.close(encoder(jnp.asarray(x), context()), expected)
    for make, what in ((lambda: ConvEncoder(()), "channels"), (lambda: ConvEncoder(kernel=1), "kernel")):
        with pytest.raises(SpecError, match=what):
            make()

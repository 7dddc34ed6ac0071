"""The key-value bottleneck against its formulas: what is learned, by what gradient, and what the output depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.bottlenecks.key_value import GaussianProjection, KeyValueBottleneck, Segments, ValueLogits
from arch.bottlenecks.keys import EmaKeys, FixedKeys
from arch.layers.heads.class_heads import MLPHead
from arch.layers.image_encoders import DenseEncoder
from arch.layers.init.initializers import Normal
from arch.models.base import Inputs, context
from arch.models.features import FeatureClassifier
from arch.params import ParamFactory, merge, split
from arch.spec import SpecError
from arch.taps import Tap
from tests.arch import tiny

C, P, K, CLASSES, B = 3, 5, 2, 4, 6
SPEC = FeatureClassifier(
    image=(2, 3, 1),
    classes=CLASSES,
    encoder=DenseEncoder(7),
    bottleneck=KeyValueBottleneck(C, P, K, CLASSES, keys=FixedKeys()),
    head=ValueLogits(),
)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((B, 2, 3, 1)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, B)


@pytest.fixture(scope="module")
def network():
    """Run and loss of one set of parameters, in which values are not all zero."""
    graphdef, params, buffers = split(SPEC.build(rngs=nnx.Rngs(0)))
    drawn = RNG.normal(size=(C, P, CLASSES)).astype(np.float32)
    params = {**params, "bottleneck": {**params["bottleneck"], "values": jnp.asarray(drawn)}}

    @jax.jit
    def run(params, buffers, images):
        return merge(graphdef, params, buffers)(Inputs(images=images), tap=Tap("features|keys.chosen|logits"))

    @jax.jit
    def gradient(params, buffers):
        def loss(params):
            logits = merge(graphdef, params, buffers)(Inputs(images=jnp.asarray(IMAGES))).logits
            own = jax.nn.log_softmax(logits)[jnp.arange(B), LABELS]
            return -jnp.mean(own)

        return jax.grad(loss)(params)

    return run, gradient, params, buffers


def test_the_output_is_the_mean_of_the_nearest_keys_values(network):
    run, _, params, buffers = network
    out = run(params, buffers, IMAGES)
    z = np.asarray(out.taps["features"], np.float64)
    matrix, table = (np.asarray(buffers["bottleneck"][a][b], np.float64)
                     for a, b in (("projection", "matrix"), ("keys", "table")))  # fmt: skip
    values = np.asarray(params["bottleneck"]["values"], np.float64)
    for row in range(B):
        chosen = [np.argmin(np.sum((z[row] @ matrix[c] - table[c]) ** 2, axis=1)) for c in range(C)]
        assert out.taps["keys.chosen"][row].tolist() == chosen
        tiny.close(out.logits[row], np.mean([values[c, chosen[c]] for c in range(C)], axis=0))


def test_the_gradient_of_the_values_is_the_closed_form(network):
    """(1 / C B) sum (softmax - one-hot) over the rows that hit a value; exactly zero elsewhere, and for the encoder."""
    run, gradient, params, buffers = network
    out, found = run(params, buffers, IMAGES), gradient(params, buffers)
    left = np.asarray(jax.nn.softmax(out.logits)) - np.eye(CLASSES)[LABELS]
    expected = np.zeros((C, P, CLASSES))
    for row, chosen in enumerate(np.asarray(out.taps["keys.chosen"])):
        for head, key in enumerate(chosen):
            expected[head, key] += left[row] / (C * B)
    tiny.close(found["bottleneck"]["values"], expected, 1e-5, 1e-7)
    assert np.all(np.asarray(found["bottleneck"]["values"])[expected.any(axis=-1) == 0] == 0)
    assert (expected.any(axis=-1) == 0).any()
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(found["encoder"]))


def test_nothing_changes_while_an_input_stays_in_its_cells(network):
    run, _, params, buffers = network
    out = run(params, buffers, IMAGES)
    moved = run(params, buffers, IMAGES + 1e-4)
    assert np.array_equal(out.taps["keys.chosen"], moved.taps["keys.chosen"])
    assert not np.array_equal(out.taps["features"], moved.taps["features"])
    assert np.array_equal(out.logits, moved.logits)
    assert not np.array_equal(out.logits, run(params, buffers, 1 - IMAGES).logits)


def test_pairs_may_be_reordered(network):
    run, _, params, buffers = network
    order = np.array([3, 0, 4, 1, 2])
    bottleneck, keys = params["bottleneck"], buffers["bottleneck"]["keys"]
    other = {**params, "bottleneck": {**bottleneck, "values": bottleneck["values"][:, order]}}
    table = {**buffers["bottleneck"], "keys": {**keys, "table": keys["table"][:, order]}}
    tiny.close(run(other, {"bottleneck": table}, IMAGES).logits, run(params, buffers, IMAGES).logits, 1e-6, 1e-7)
    assert not np.allclose(run(other, buffers, IMAGES).logits, run(params, buffers, IMAGES).logits)


def test_places_of_a_spatial_encoder_are_pooled():
    spec = KeyValueBottleneck(C, P, K, CLASSES, GaussianProjection(), FixedKeys())

    layer = spec.build(7, ParamFactory(jax.random.key(0), Normal()))
    layer.values[...] = jnp.asarray(RNG.normal(size=(C, P, CLASSES)), jnp.float32)
    z = jnp.asarray(RNG.normal(size=(2, 3, 2, 7)), jnp.float32)
    each = layer(z.reshape(12, 7), context())
    tiny.close(layer(z, context()), np.asarray(each).reshape(2, 6, CLASSES).mean(axis=1))


def test_segments_are_cut_and_heads_may_have_parameters():
    spec = KeyValueBottleneck(2, P, 3, 5, Segments(), EmaKeys())
    model = FeatureClassifier((2, 3, 1), CLASSES, DenseEncoder(6), spec, MLPHead(hidden=4))
    out = model.build(rngs=nnx.Rngs(0))(Inputs(images=jnp.asarray(IMAGES)))
    assert out.logits.shape == (B, CLASSES)
    assert set(out.statistics) == {"bottleneck.keys"}
    with pytest.raises(SpecError, match="2 heads of 3"):
        FeatureClassifier((2, 3, 1), CLASSES, DenseEncoder(7), spec, MLPHead()).build(rngs=nnx.Rngs(0))
    with pytest.raises(SpecError, match="5 and 4"):
        FeatureClassifier((2, 3, 1), CLASSES, DenseEncoder(6), spec, ValueLogits()).build(rngs=nnx.Rngs(0))

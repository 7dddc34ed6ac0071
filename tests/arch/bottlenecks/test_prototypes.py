"""The prototype layer and its network: distances, R1 and R2 by loops, and where their gradients go."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.bottlenecks.prototypes import PrototypeLayer, squared_distances
from arch.layers.image_encoders import ConvEncoder
from arch.layers.init.initializers import FanIn
from arch.models.base import Inputs, context
from arch.models.prototypes import PrototypeNetwork
from arch.params import ParamFactory, merge, split
from arch.taps import Tap
from tests.arch import tiny

M, Q, B = 4, 3, 6
RNG = np.random.default_rng(0)
CODES = RNG.random((B, Q)).astype(np.float32)
MODEL = PrototypeNetwork((7, 5, 2), 3, ConvEncoder((3, 4)), prototypes=PrototypeLayer(M), init=FanIn(2**0.5))
IMAGES = RNG.random((B, 7, 5, 2)).astype(np.float32)
INPUTS = Inputs(images=jnp.asarray(IMAGES))


def layer(**weights):
    return PrototypeLayer(M, **weights).build(Q, ParamFactory(jax.random.key(0), FanIn()))


def terms(part, codes, prototypes):
    """R1 and R2 as the part answers them."""
    graphdef, _, buffers = split(part)
    part, ctx = merge(graphdef, {"prototypes": prototypes}, buffers), context()
    part(jnp.asarray(codes), ctx)
    losses = ctx.answers.collect(part).losses
    return losses["near_inputs"].value, losses["near_prototypes"].value


def by_loops(codes, prototypes):
    """R1, R2, and what prototypes get of R1 and codes of R2 as gradient: through the nearest pair alone."""
    d = [[sum((a - b) ** 2 for a, b in zip(x, p, strict=True)) for p in prototypes] for x in codes]
    to_prototypes, to_codes = np.zeros_like(prototypes), np.zeros_like(codes)
    r1 = r2 = 0.0
    for j in range(len(prototypes)):
        i = min(range(len(codes)), key=lambda i: d[i][j])
        r1 += d[i][j] / len(prototypes)
        to_prototypes[j] += 2 * (prototypes[j] - codes[i]) / len(prototypes)
    for i in range(len(codes)):
        j = min(range(len(prototypes)), key=lambda j: d[i][j])
        r2 += d[i][j] / len(codes)
        to_codes[i] += 2 * (codes[i] - prototypes[j]) / len(codes)
    return d, r1, r2, to_prototypes, to_codes


def test_distances_terms_and_gradients_are_those_of_loops():
    part = layer()
    prototypes = np.asarray(part.prototypes[...], np.float64)
    d, r1, r2, to_prototypes, to_codes = by_loops(CODES.astype(np.float64), prototypes)
    found = squared_distances(jnp.asarray(CODES), part.prototypes[...])
    tiny.close(found, np.array(d), 1e-5, 1e-6)
    assert np.asarray(found).min() >= 0
    start = part.prototypes[...]
    tiny.close(jnp.stack(terms(part, CODES, start)), np.array([r1, r2]), 1e-5)
    tiny.close(jax.grad(lambda p: terms(part, CODES, p)[0])(start), to_prototypes, 1e-4, 1e-6)
    tiny.close(jax.grad(lambda x: terms(part, x, start)[1])(jnp.asarray(CODES)), to_codes, 1e-4, 1e-6)


def test_a_prototype_on_an_input_has_no_distance_and_no_term():
    part = layer()
    prototypes = np.array(part.prototypes[...])
    before = by_loops(CODES, prototypes)
    prototypes[1] = CODES[2]
    d = squared_distances(jnp.asarray(CODES), jnp.asarray(prototypes))
    assert d[2, 1] == 0
    lost = min(row[1] for row in before[0]) / M
    tiny.close(terms(part, CODES, jnp.asarray(prototypes))[0], before[1] - lost, 1e-4, 1e-6)
    far = squared_distances(jnp.full((1, Q), 1e4) + jnp.arange(3.0)[None], jnp.full((1, Q), 1e4))
    assert far[0, 0] == 5.0  # nothing is lost far from zero


def test_terms_without_weight_are_left_out():
    answered = []
    for weights in ({"near_inputs": 0.0}, {"near_prototypes": 0.0}, {"near_inputs": 0.5}):
        part, ctx = layer(**weights), context()
        part(jnp.asarray(CODES), ctx)
        answered.append(ctx.answers.collect(part).losses)
    assert [set(one) for one in answered] == [{"near_prototypes"}, {"near_inputs"}, {"near_inputs", "near_prototypes"}]
    tiny.close(answered[2]["near_inputs"].value, 0.5 * answered[1]["near_inputs"].value)
    assert answered[1]["near_inputs"].coupled
    assert not answered[0]["near_prototypes"].coupled


@pytest.fixture(scope="module")
def network():
    graphdef, params, buffers = split(MODEL.build(rngs=nnx.Rngs(0)))
    tap = Tap("code|reconstruction|distances|logits")
    return jax.jit(lambda params: merge(graphdef, params, buffers)(INPUTS, tap=tap)), params, graphdef


def test_logits_are_distances_times_weights_and_a_shift_of_a_row_changes_no_probability(network):
    run, params, _ = network
    out = run(params)
    tiny.close(out.logits, np.asarray(out.taps["distances"]) @ np.asarray(params["head"]["kernel"]), 1e-5)
    shift = np.array([[1.0], [-2.0], [0.5], [3.0]], np.float32)
    moved = run({**params, "head": {"kernel": params["head"]["kernel"] + shift}})
    assert not np.allclose(moved.logits, out.logits)
    tiny.close(jax.nn.softmax(moved.logits), jax.nn.softmax(out.logits), 1e-3, 1e-5)


def test_the_four_terms(network):
    """R is a sum over pixels and a mean over images."""
    run, params, _ = network
    out = run(params)
    r = np.mean(np.sum((np.asarray(out.taps["reconstruction"]) - IMAGES) ** 2, axis=(1, 2, 3)))
    tiny.close(out.losses["reconstruction"].value, r, 1e-5)
    codes, prototypes = np.asarray(out.taps["code"], np.float64), np.asarray(params["prototypes"]["prototypes"])
    _, r1, r2, *_ = by_loops(codes, prototypes.astype(np.float64))
    tiny.close(out.losses["prototypes.near_inputs"].value, r1, 1e-4)
    tiny.close(out.losses["prototypes.near_prototypes"].value, r2, 1e-4)
    off = dataclasses.replace(MODEL, reconstruction=0.0).build(rngs=nnx.Rngs(0))(INPUTS)
    assert set(off.losses) == {"prototypes.near_inputs", "prototypes.near_prototypes"}


def test_a_code_is_decoded_as_prototype_as_it_is_by_the_autoencoder(network):
    run, params, graphdef = network
    out = run(params)
    codes = out.taps["code"][:M]
    model = merge(graphdef, {**params, "prototypes": {"prototypes": codes}}, {})
    tiny.close(model.pictures(), out.taps["reconstruction"][:M], 1e-5, 1e-6)
    assert np.asarray(out.taps["reconstruction"]).std(axis=0).max() > 1e-4

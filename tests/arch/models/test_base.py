"""What a network is given and cannot use is told in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.context import Gates
from arch.models.base import Inputs, Network
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.models.mlp import DeepMLP
from arch.params import merge
from arch.spec import UserError
from tests.arch import tiny

TOKENS = jnp.zeros((2, 4), jnp.int32)


def call(spec, inputs, **told):
    graphdef, params = tiny.draw(spec)
    return jax.eval_shape(lambda params: merge(graphdef, params, {})(inputs, **told).logits, params)


def test_a_cache_for_a_model_that_has_none():
    spec = Classifier(vocab=8, width=8, depth=1)
    graphdef, params = tiny.draw(spec)
    with pytest.raises(UserError, match="ClassifierNetwork was called with a cache and does not go on from one"):
        jax.eval_shape(
            lambda p: merge(graphdef, p, {})(Inputs(TOKENS), cache=tiny.empty_cache(tiny.decoder(), 2, 8)).logits,
            params,
        )


def test_gates_for_a_model_without_layers():
    with pytest.raises(UserError, match="DeepMLPNetwork has no stack of layers"):
        call(DeepMLP(hidden=4, depth=2), Inputs(images=jnp.zeros((2, 8, 8, 1))), gates=Gates(block=np.ones(2)))


def test_coordinates_that_nobody_reads():
    with pytest.raises(UserError, match="coordinates were given, and no part of the model reads them"):
        call(Decoder(vocab=8, width=16, depth=1), Inputs(TOKENS, coordinates=np.zeros((1, 4, 2), np.int32)))


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (Inputs(images=TOKENS), "reads tokens, positions, segments, coordinates, prefix; it was given images"),
        (Inputs(TOKENS, source=Inputs(TOKENS)), "it was given tokens, source"),
    ],
)
def test_inputs_that_are_not_its_own(inputs, line):
    with pytest.raises(UserError, match=line):
        call(Decoder(vocab=8, width=16, depth=1), inputs)


def test_an_array_is_no_inputs():
    """Told by the model, or by the type checker where there is one."""
    with pytest.raises((UserError, TypeError), match="Inputs"):
        call(Decoder(vocab=8, width=16, depth=1), TOKENS)


def test_a_network_defines_forward():
    class Nothing(Network):
        pass

    with pytest.raises(TypeError, match="forward"):
        Nothing()

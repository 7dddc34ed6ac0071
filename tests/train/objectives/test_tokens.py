"""Bits a byte are measured of text, and of nothing else: tokens without bytes would be divided by one byte in all."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.models.base import Output
from train.data.description import Description
from train.data.state_machine import StateMachine
from train.objectives.masked_lm import MaskedLM
from train.objectives.next_token import NextToken
from train.objectives.tokens import Targets, token_bytes

TARGETS = Targets(jnp.asarray([[0, 1, 1]], jnp.int32), jnp.ones((1, 3), jnp.float32))


@pytest.mark.parametrize("objective", [NextToken(), MaskedLM()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("known", [None, np.zeros(2), np.asarray([1, 3])], ids=["none", "no bytes", "text"])
def test_bits_a_byte_are_those_of_text(objective, known):
    extra = objective.extra_tokens(Description({}, vocab=2)) if isinstance(objective, MaskedLM) else 0
    task = objective.build(Description({}, vocab=2, token_bytes=known))
    loss = task.loss(Output(jnp.zeros((1, 3, 2 + extra)), {}, {}), TARGETS)
    found = objective.metrics(loss)
    nats = math.log(2 + extra)
    assert float(found["loss"]) == pytest.approx(nats)
    if known is None or not known.any():
        assert "bits_per_byte" not in found
    else:
        assert float(found["bits_per_byte"]) == pytest.approx(3 * nats / math.log(2) / 7)


def test_walks_of_a_machine_are_no_text():
    assert token_bytes(StateMachine(states=16, edges=2, length=4).describe()) is None
    assert jax.tree.leaves(token_bytes(Description({}, vocab=2, token_bytes=np.ones(2)), 1).tolist()) == [1, 1, 0]

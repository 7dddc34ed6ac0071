"""What is reported of a pass: nothing takes the place of another thing."""

import jax.numpy as jnp
import pytest

from arch.answers import Sum
from arch.spec import UserError
from train.forward import Sums, report
from train.objectives.base import Loss
from train.objectives.next_token import NextToken


@pytest.mark.parametrize("name", ["loss", "bits_per_byte", "grad_norm"])
def test_a_metric_does_not_take_the_place_of_another(name):
    one = jnp.ones(())
    loss = Loss(one, one, {"nats": one, "bytes": one, "targets": one})
    with pytest.raises(UserError, match=f"{name}: a part of the model answers what the objective or the step reports"):
        report(NextToken(), Sums(loss, {}, {name: Sum(one, one)}, {}))
    assert "usage" in report(NextToken(), Sums(loss, {}, {"usage": Sum(one, one)}, {}))

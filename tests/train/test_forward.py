"""What is reported of a pass: nothing takes the place of another thing."""

import jax.numpy as jnp
import pytest

from arch.answers import Sum
from arch.models.base import Inputs
from arch.spec import UserError
from train.forward import Sums, report, tokens_read
from train.objectives.base import Loss
from train.objectives.classification import Classification
from train.objectives.next_token import NextToken


@pytest.mark.parametrize("name", ["loss", "bits_per_byte", "grad_norm"])
def test_a_metric_does_not_take_the_place_of_another(name):
    one = jnp.ones(())
    loss = Loss(one, one, {"nats": one, "bytes": one, "targets": one})
    with pytest.raises(UserError, match=f"{name}: a part of the model answers what the objective or the step reports"):
        report(NextToken(), Sums(loss, {}, {name: Sum(one, one)}, {}, one))
    assert "usage" in report(NextToken(), Sums(loss, {}, {"usage": Sum(one, one)}, {}, one))


def test_tokens_read_are_those_of_all_rows_without_padding():
    one = jnp.array([[1, 1, 2, 0], [1, 0, 0, 0]])
    tokens = jnp.zeros((2, 4), jnp.int32)
    assert float(tokens_read(Inputs(tokens, segments=one))) == 4
    assert float(tokens_read(Inputs(tokens))) == 8
    assert float(tokens_read(Inputs(tokens, segments=one, source=Inputs(tokens, segments=one // 2)))) == 5
    assert float(tokens_read(Inputs(tokens, segments=one, second=Inputs(tokens)))) == 12
    assert float(tokens_read(Inputs(images=tokens))) == 0


def test_the_share_of_targets_is_told_of_objectives_that_count_tokens():
    weight, one = jnp.float32(3), jnp.float32(1)
    sums = Sums(Loss(one, weight, {"nats": one, "bytes": one, "targets": weight}), {}, {}, {}, jnp.float32(4))
    assert float(report(NextToken(), sums)["target_fraction"]) == 0.75
    rows = Loss(one, weight, {"nats": one, "correct": one, "rows": weight})
    assert "target_fraction" not in report(Classification(), Sums(rows, {}, {}, {}, jnp.float32(0)))

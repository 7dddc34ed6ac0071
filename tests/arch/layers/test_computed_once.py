"""Tables computed once: the numbers of the function itself, behind a conditional on CPUs alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import computed_once
from tests.arch import tiny


def tables(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    angle = positions.astype(jnp.float32) / 3
    return jnp.cos(angle), positions + 1


@pytest.mark.parametrize(("platform", "conditionals"), [("cpu", 1), ("gpu", 0)])
def test_the_numbers_are_those_of_the_function(platform, conditionals, monkeypatch):
    monkeypatch.setattr(computed_once, "platform", lambda: platform)
    positions = jnp.asarray([[0, 1, 5], [0, 0, 2]])
    program = jax.jit(lambda at: computed_once.computed_once(tables, at))
    cosine, after = program(positions)
    tiny.close(cosine, np.cos(np.asarray(positions) / 3))
    np.testing.assert_array_equal(after, np.asarray(positions) + 1)
    assert str(jax.make_jaxpr(program)(positions)).count("cond[") == conditionals

"""The bench of attention at toy size: every form that this machine has runs."""

import jax
import numpy as np
import pytest

from bench import attention
from bench.alternate import together

pytestmark = pytest.mark.filterwarnings("ignore")


def test_contestants_run():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as JAX's own form needs it
        seconds = together(attention.contestants("cpu", 32, 64, 2), 2, 1)
    assert set(seconds) == {"ours, packed", "ours", "plain, packed", "plain", "dot_product_attention", "torch, flash"}
    assert all(np.isfinite(values).all() for values in seconds.values())

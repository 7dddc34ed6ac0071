"""The bench of products: every form runs, and rates are counted as they should be."""

import numpy as np
import pytest

from bench import products
from bench.alternate import together

pytestmark = pytest.mark.filterwarnings("ignore")


def test_contestants_run():
    seconds = together(products.contestants("cpu", [8, 4, 8]), 2, 1)
    assert {"float32 -> float32", "bfloat16 -> float32, 4 batched", "torch, bfloat16"} <= set(seconds)
    assert all(np.isfinite(values).all() for values in seconds.values())
    told = products.report({"one": [2.0, 1.0, 4.0]}, [1000, 1000, 100])
    assert told.splitlines()[1].split() == ["one", "1", "2"]

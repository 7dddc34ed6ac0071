"""The bench of codebooks at every layer, at toy size: both contestants learn, and one of them has codes."""

import numpy as np
import pytest

from bench.codebook_overhead import contestants, step

TOY = {"codes": 8, "k": 2, "width": 16, "depth": 1, "length": 8, "rows": 2}


@pytest.mark.slow
def test_both_steps_run():
    told = {name: argument for name, (_, _, argument) in contestants(TOY).items()}
    assert {name: argument["codes"] for name, argument in told.items()} == {"codebooks": 8, "without": 0}
    losses = {}
    for name, argument in told.items():
        run = step(argument)
        losses[name] = [run() for _ in range(3)]
        assert losses[name][-1] < losses[name][0]
    assert np.abs(np.subtract(*losses.values())).max() > 1e-4

"""The bench of training steps at toy size: every contestant learns, and MFU is what a closed form says."""

import numpy as np
import pytest

from arch import cost
from bench import train_step
from bench.alternate import together

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_contestants_run(precision):
    some = {"ours, one device", "torch eager, fused", *(["ours, scanned"] if precision == "float32" else [])}
    runs = train_step.contestants("cpu", "toy", 16, precision)
    seconds = together({name: (*runs[name][:2], {**runs[name][2], "devices": 1}) for name in some}, 2, 1)
    assert set(seconds) == some
    assert all(np.isfinite(values).all() for values in seconds.values())


def test_utilisation_in_both_conventions():
    # 2 x (4 x 32^2 + 3 x 32 x 64) + 256 x 32 = 28,672 parameters; scores 12 x 2 x 16 x 32 = 12,288 a token.
    assert train_step.flops("toy", 16) == (6 * 28_672 * 64, (6 * 28_672 + 12_288) * 64)
    told = train_step.utilisation({"ours": [1.0, 1.0]}, "toy", 16, peak=1e8)
    assert told.splitlines()[1].split() == ["ours", "64", "11.0%", "11.8%"]


def test_ours_counts_what_the_formula_says():
    """The step's own FLOPs, counted from the program, are those with the T x T scores."""
    counted = cost.train_flops_per_token(train_step.decoder("toy"), 16) * train_step.SHAPES["toy"]["tokens"]
    assert counted == pytest.approx(train_step.flops("toy", 16)[1], rel=0.01)

"""The bench of generation at toy size: the same tokens, and a report with a ratio."""

import pytest

from bench import generate
from bench.alternate import together

pytestmark = pytest.mark.filterwarnings("ignore")
TOY = {"size": "toy", "batch": 2, "prompt": 5, "new": 4}


def test_tokens_are_those_of_transformers():
    assert generate.agreement(TOY) == 1.0
    found = generate.ours(TOY)()
    assert found.shape == (2, 4)
    assert len(set(found.ravel().tolist())) > 2


def test_a_report_has_rates_and_ratios():
    seconds = together(generate.contestants(TOY, [1]), 2, 1)
    assert set(seconds) == {"ours", "torch, 1 thread"}
    told = generate.report({"ours": [1.0, 1.0], "torch, 1 thread": [2.0, 4.0]}, TOY)
    assert "8.0 tokens/s   ours is 1.00x" in told
    assert "2.7 tokens/s   ours is 3.00x (2.50 to 3.50)" in told

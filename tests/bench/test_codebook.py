"""The bench of codebooks at toy size: both compute the same step."""

import pytest

from bench import codebook


@pytest.mark.filterwarnings("ignore")
def test_both_take_the_same_step():
    pytest.importorskip("vector_quantize_pytorch", reason="vector-quantize-pytorch is not installed")
    gaps = codebook.gaps({"codes": 32, "width": 8, "tokens": 64})
    assert gaps["ids"] == 0
    assert max(gaps.values()) < 1e-5

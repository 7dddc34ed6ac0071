"""Synthesizers against their formulas in numpy."""

import numpy as np
import pytest
from scipy.special import softmax

from arch.layers.attention.synthesizer import DenseSynthesizer, RandomSynthesizer
from tests.arch import tiny
from tests.arch.layers.attention.kinds import B, K, N, T, layer, padded, rows, run

LENGTH = T + 5
"""The parts are built for longer rows than they get."""


@pytest.mark.parametrize("kind", [DenseSynthesizer, RandomSynthesizer])
def test_the_formula_head_by_head(kind):
    spec, lengths = kind(N, K, length=LENGTH), (T, 7, 4)
    _, params = layer(spec)
    _, taps = run(spec, rows(), padded(lengths))
    for b, length in enumerate(lengths):
        for n in range(N):
            if kind is DenseSynthesizer:
                hidden = np.maximum(rows()[b].astype(np.float64) @ np.asarray(params["q"]["kernel"])[:, n], 0)
                score = hidden @ np.asarray(params["places"])[:, n, :length]
            else:
                score = np.asarray(params["pattern"], np.float64)[n, :T, :length]
            expected = softmax(score, axis=-1) @ np.asarray(taps["attn.v"])[b, :length, n]
            tiny.close(taps["attn.z"][b, :, n], expected.astype(np.float32))


def test_a_random_pattern_is_the_same_for_all_rows():
    _, taps = run(RandomSynthesizer(N, K, length=T), rows())
    assert taps["attn.pattern"].shape == (1, N, T, T)
    _, other = run(RandomSynthesizer(N, K, length=T), rows(5, batch=B))
    np.testing.assert_array_equal(taps["attn.pattern"], other["attn.pattern"])

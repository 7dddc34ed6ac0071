"""Published encoder-decoders: exact counts, and how T5 starts."""

import dataclasses
import functools

import numpy as np
import pytest
from flax import nnx

from arch import cost
from arch.params import split
from experiments.pair_sizes import SIZES, T5Size

TOTALS = {
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-v1_1-small": 76_961_152,
    "t5-v1_1-base": 247_577_856,
    "t5-v1_1-large": 783_150_080,
    "t5-v1_1-xl": 2_849_757_184,
    "t5gemma-2b-2b": 5_596_853_760,
    "mu-330M": 332_042_240,
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_the_published_ones(name):
    assert cost.parameters(SIZES[name].model()).total == TOTALS[name]


def test_mus_layers_are_as_large_as_the_released_ones():
    size = SIZES["mu-330M"]
    whole = cost.parameters(size.model()).total
    one_less = lambda field: dataclasses.replace(size, **{field: getattr(size, field) - 1}).model()  # noqa: E731
    assert whole - cost.parameters(one_less("source_layers")).total == 9_577_216
    assert whole - cost.parameters(one_less("target_layers")).total == 10_759_680
    assert cost.parameters(size.model()).embedding == 32_128 * 1024, "one table for both halves and the head"


def test_t5_starts_with_small_queries():
    model = T5Size(2, 64, 96, 4, head_dim=16, vocab=400).model().build(rngs=nnx.Rngs(0))
    _, params, _ = split(model)
    std = lambda path: float(np.std(functools.reduce(lambda node, name: node[name], path.split("."), params)))  # noqa: E731
    expected = {
        "mixer.q.kernel": (64 * 16) ** -0.5,
        "cross.q.kernel": (64 * 16) ** -0.5,
        "mixer.k.kernel": 64**-0.5,
        "mixer.o.kernel": (4 * 16) ** -0.5,
        "feed_forward.down.kernel": 96**-0.5,
    }
    for path, value in expected.items():
        assert std(f"decoder.stack.blocks.{path}") == pytest.approx(value, rel=0.05), path
    assert std("decoder.embedding.table") == pytest.approx(1.0, rel=0.05)
    assert std("encoder.position.table") == pytest.approx(32**-0.5, rel=0.3)

"""Bottlenecks between the layers of a stack: what they answer, their sites, and where they may stand."""

import numpy as np
import pytest

from arch.spec import SpecError
from arch.stacks import Sequential, Split
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.stacks.by_hand import NARROW, WIDE, B, D, Squeeze, T, form, model

SPEC = form(model(Split(NARROW, WIDE, 0.25)), between=((0, Squeeze()), (3, Squeeze()), (4, Squeeze())))
"""Logits and gradients of it are compared in `test_patterns`."""


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_bottlenecks_answer_and_have_sites_and_keys_of_their_own(loop):
    spec = form(SPEC, loop=loop)
    forward, params = tiny.forward(spec)
    tap = Tap(save=r"between_\d\.out|resid_pre|resid_post|embed")
    out = tiny.jit(lambda params: forward(params, tiny.tokens(B, T), tap=tap))(params)
    taps = {site: np.asarray(value) for site, value in out.taps.items()}
    passes = {0: taps["embed"], 3: taps["resid_post"][2], 4: taps["resid_post"][3]}
    for after, x in passes.items():
        gain = params["stack"]["between"][str(after)]["gain"]
        tiny.close(taps[f"between_{after}.out"], np.tanh(x * gain))
    tiny.close(taps["resid_pre"][0], taps["between_0.out"])
    tiny.close(taps["resid_pre"][3], taps["between_3.out"])
    expected = np.array([np.square(x).sum() for x in passes.values()])
    for answered in (out.losses["between.size"], out.metrics["between.seen"]):
        tiny.close(answered.total, expected)
        np.testing.assert_array_equal(answered.weight, np.full(3, B * T * D))
    assert set(out.losses) == {"between.size"}


@pytest.mark.parametrize(
    ("between", "line"),
    [
        (((5, Squeeze()),), "must stand after 0 to 4 layers, not 5"),
        (((-1, Squeeze()),), "must stand after 0 to 4 layers, not -1"),
        (((1, Squeeze()), (1, Squeeze())), "must have one bottleneck at a place"),
    ],
)
def test_bottlenecks_stand_at_places_that_are_there(between, line):
    with pytest.raises(SpecError, match=line):
        tiny.draw(model(NARROW, stack=Sequential(between=between)))

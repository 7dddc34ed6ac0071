"""Bottlenecks between the layers of a stack: what they answer, their sites, and where they may stand."""

import jax.numpy as jnp
import numpy as np
import pytest

from arch.context import Gates
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


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_a_closed_gate_leaves_the_stream_as_it_was(loop):
    """Bit for bit; an open one changes nothing, and layers keep gates of their own."""
    spec = form(model(NARROW), loop=loop, between=((0, Squeeze()), (3, Squeeze())))
    forward, params = tiny.forward(spec)
    gain = np.asarray(params["stack"]["between"]["3"]["gain"])
    tap = Tap(save="embed|resid_pre|resid_post")

    @tiny.jit
    def run(params, gates):
        out = forward(params, tiny.tokens(B, T), gates=Gates(gates), tap=tap)
        return {"logits": out.logits, **out.taps}

    is_open, closed = jnp.ones((1,), bool), jnp.zeros((1,), bool)
    there = run(params, {})["logits"]
    np.testing.assert_array_equal(run(params, {"between_0": is_open, "between_3": is_open})["logits"], there)
    found = run(params, {"between_0": closed, "between_3": closed})
    np.testing.assert_array_equal(found["resid_pre"][0], found["embed"])
    np.testing.assert_array_equal(found["resid_pre"][3], found["resid_post"][2])
    one = run(params, {"between_0": closed})
    np.testing.assert_array_equal(one["resid_pre"][0], one["embed"])
    tiny.close(one["resid_pre"][3], np.tanh(np.asarray(one["resid_post"][2]) * gain))
    rows = jnp.broadcast_to(jnp.arange(B)[None, :, None] > 0, (1, B, T))  # the first row's are closed
    some = run(params, {"between_0": rows})
    np.testing.assert_array_equal(some["logits"][0], one["logits"][0])
    np.testing.assert_array_equal(some["logits"][1:], there[1:])
    np.testing.assert_array_equal(
        run(params, {"block": jnp.ones((4,), bool), "between_0": closed})["logits"], one["logits"]
    )


def test_gates_of_bottlenecks_that_are_not_there():
    spec = form(model(NARROW), between=((1, Squeeze()),))
    forward, params = tiny.forward(spec)
    with pytest.raises(ValueError, match=r"gates.between_1 has shape \(4,\); it needs one gate, \[1\]"):
        forward(params, tiny.tokens(B, T), gates=Gates(between_1=jnp.ones((4,), bool)))
    with pytest.raises(ValueError, match=r"gates are given for between_2; the layers have .*between_1"):
        forward(params, tiny.tokens(B, T), gates=Gates(between_2=jnp.ones((1,), bool)))


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

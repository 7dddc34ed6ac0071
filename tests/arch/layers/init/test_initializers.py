"""Initialisers: the spread of each role, by width and depth, measured."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.init.initializers import ROLES, DepthScaledInit, FanIn, Normal, ScaledInit, TruncatedNormal, ZeroOutput
from arch.layers.init.megatron import FullMegatron
from arch.models.decoder import Decoder
from arch.spec import SpecError
from arch.taps import Tap
from tests.arch import tiny

SHAPE, FAN_IN, DEPTH = (64, 400), 64, 6
STD_ERROR = 5 / np.sqrt(2 * 64 * 400)
"""Five standard errors of a measured std, relative."""


def measured(init, role, layer=2):
    value = init(jax.random.key(0), SHAPE, role=role, fan_in=FAN_IN, depth=DEPTH, layer=layer)
    assert value.dtype == np.float32
    assert abs(float(value.mean())) < 5 * float(value.std()) / np.sqrt(value.size)
    return float(value.std())


CUT_AT_2 = 0.8796256610342398
"""Std of a standard normal cut at 2 standard deviations."""

MEGATRON, SMALL = 0.02 * CUT_AT_2, np.sqrt(2 * DEPTH)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("init", "std"),
    [
        (Normal(0.02), dict.fromkeys(ROLES, 0.02)),
        (TruncatedNormal(0.5, cut=2.0), dict.fromkeys(ROLES, 0.5 * CUT_AT_2)),
        (FanIn(2.0), {**dict.fromkeys(ROLES, 2 / FAN_IN**0.5), "embedding": 2.0, "position": 2.0}),
        (ScaledInit(Normal(0.02)), {**dict.fromkeys(ROLES, 0.02), "residual": 0.02 / np.sqrt(2 * DEPTH)}),
        (ScaledInit(FanIn(8.0)), {**dict.fromkeys(ROLES, 1), "embedding": 8, "position": 8, "residual": 12**-0.5}),
        (FullMegatron(), {role: MEGATRON / (SMALL if role in ("residual", "transform") else 1) for role in ROLES}),
        (DepthScaledInit(Normal(0.1)), {**dict.fromkeys(ROLES, 0.1), "residual": 0.1 / np.sqrt(2 * 3)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_spread_of_each_role(init, std, role):
    np.testing.assert_allclose(measured(init, role), std[role], rtol=STD_ERROR)


def test_truncation_cuts():
    value = TruncatedNormal(0.5, cut=1.5)(jax.random.key(0), SHAPE, role="linear", fan_in=1, depth=1, layer=0)
    assert 0.7 < float(abs(value).max()) <= 0.75


def test_rules_leave_the_base_alone_elsewhere():
    arguments = {"fan_in": FAN_IN, "depth": DEPTH, "layer": 1}
    for rule in (ScaledInit(), DepthScaledInit(), ZeroOutput()):
        plain, ruled = (init(jax.random.key(0), (4, 4), role="linear", **arguments) for init in (Normal(), rule))
        np.testing.assert_array_equal(plain, ruled)


def build(spec):
    """The parameters that `spec` builds, compiled as one program."""
    return tiny.jit(lambda: nnx.to_pure_dict(nnx.state(spec.build(rngs=nnx.Rngs(0)), nnx.Param)))()


def test_depth_scaled_in_a_stack():
    """Layer l = 1..L of a stacked model starts at 1/sqrt(2l), both in attention and in the feed-forward."""
    block = PreNorm(mixer=Attention(heads=2))
    blocks = build(Decoder(vocab=4, width=64, depth=3, block=block, init=DepthScaledInit()))["stack"]["blocks"]
    spread = {
        (part, name): blocks[part][name]["kernel"].reshape(3, -1).std(axis=1)
        for part, names in (("mixer", "qkvo"), ("feed_forward", ("gate", "up", "down")))
        for name in names
    }
    for place, std in spread.items():
        scaled = place in (("mixer", "o"), ("feed_forward", "down"))
        np.testing.assert_allclose(std, 0.02 / np.sqrt(2.0 * np.arange(1, 4)) if scaled else 0.02, rtol=0.1)


@pytest.mark.parametrize("block", ["pre", "parallel"])
def test_zero_output_makes_blocks_identities(block):
    spec = dataclasses.replace(tiny.decoder(block=block, loop="unroll"), init=ZeroOutput(FanIn()))
    tap = Tap(save="embed|resid_post")
    forward, _ = tiny.forward(spec)
    taps = tiny.jit(lambda params: forward(params, tiny.tokens(2, 5), tap=tap).taps)(build(spec))
    assert np.abs(taps["embed"]).std() > 0.5
    for layer in taps["resid_post"]:
        np.testing.assert_array_equal(layer, taps["embed"])


def test_descriptions_name_the_rule_where_it_acts():
    assert ScaledInit(FanIn(2.0)).describe("residual") == "ScaledInit(FanIn(2.0))"
    assert ScaledInit(FanIn(2.0)).describe("linear") == "FanIn(2.0)"
    assert TruncatedNormal().describe("head") == "TruncatedNormal(0.02, 3.0)"


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("Normal.std=0.0", lambda: Normal(0.0)),
        ("TruncatedNormal.std=-1.0", lambda: TruncatedNormal(-1.0)),
        ("TruncatedNormal.cut=0.0", lambda: TruncatedNormal(cut=0.0)),
        ("FanIn.gain=nan", lambda: FanIn(float("nan"))),
    ],
)
def test_impossible_spreads_are_refused(field, make):
    with pytest.raises(SpecError, match=f"{field}: must be (finite and )?greater than 0"):
        make()

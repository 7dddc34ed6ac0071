"""Matching: counts against closed forms, cells that cannot be reached, and the paper's own dial."""

import dataclasses

import jax.numpy as jnp
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.attention import Attention
from arch.layers.feed_forward import GatedMLP
from arch.layers.norms import Norm
from arch.spec import UserError
from experiments.study.match import Match, count, match, mismatch, shape
from tests.train import toys
from train.data.text import Text
from train.run import Run

V, T = 64, 32


@dataclasses.dataclass(frozen=True)
class Spectral(Norm):
    """The real part of a Fourier transform over the features, in place of a norm."""

    def build(self, width, make, axis="embed"):
        return SpectralLayer()


class SpectralLayer(nnx.Module):
    def __call__(self, x, ctx):
        return jnp.fft.fft(x.astype(jnp.float32)).real.astype(x.dtype) / 8


def base(**model) -> Run:
    block = PreNorm(mixer=Attention(heads=4), feed_forward=GatedMLP(hidden=168))
    return toys.run(model=toys.model(vocab=V, width=64, depth=4, block=block, **model), data=Text(length=T))


def closed_form(dials: dict) -> dict:
    """Parameters, and FLOPs of training on a row, of a decoder with a gated feed-forward and untied head."""
    D, L, N, K, F = (dials[name] for name in ("width", "depth", "heads", "head_dim", "hidden"))
    matrices = L * (4 * D * N * K + 3 * D * F) + D * V
    gains = (2 * L + 1) * D
    return {
        "params": matrices + gains + V * D,
        "params_nonembed": matrices + gains,
        "train_flops": 3 * (2 * T * matrices + L * 2 * 2 * T * T * N * K),
    }


@pytest.mark.parametrize("hold", ["params", "params_nonembed", "train_flops"])
def test_arms_agree_and_are_what_they_count(hold):
    run = base()
    arms = match(run, depth=(1, 2, 4, 8), hold=hold, tolerance=0.03)
    assert list(arms) == ["depth=1", "depth=2", "depth=4", "depth=8"]
    target = closed_form(shape(run) | {"head_dim": 16})[hold]
    for name, arm in arms.items():
        dials = shape(arm)
        expected = closed_form(dials)
        assert count(arm, hold) == expected[hold]
        assert dials["parameters"] == expected["params"]
        assert dials["train_flops"] == expected["train_flops"]
        assert expected[hold] == pytest.approx(target, rel=0.03), name
        assert dials["width"] % 8 == dials["hidden"] % 8 == 0
        assert dials["head_dim"] == 16
    assert [shape(arm)["depth"] for arm in arms.values()] == [1, 2, 4, 8]
    widths = [shape(arm)["width"] for arm in arms.values()]
    assert widths == sorted(widths, reverse=True)
    assert shape(arms["depth=4"])["width"] == 64, "the base's own shape is found again"


def test_widths_keep_to_their_unit():
    arms = match(base(), depth=(1, 2), hold="params", unit=32, tolerance=0.2)
    assert all(shape(arm)["width"] % 32 == 0 for arm in arms.values())


def test_heads_in_all_stay_and_nothing_else_moves():
    """The dial of "Wide Attention": the attention parameters are equal, the feed-forwards are as many as layers."""
    arms = match(base(), depth=(1, 2, 4, 8, 16), hold="heads_total")
    for arm in arms.values():
        dials = shape(arm)
        assert dials["depth"] * dials["heads"] == 16
        assert (dials["width"], dials["head_dim"], dials["hidden"]) == (64, 16, 168)
    with pytest.raises(UserError, match="depth=3 is unreachable: depth must divide the 16 heads"):
        match(base(), depth=(3,), hold="heads_total")


def test_heads_as_a_dial():
    arms = match(base(), depth=(2, 4), heads=(2, 8), hold="params", tolerance=0.03)
    assert [(shape(arm)["depth"], shape(arm)["heads"]) for arm in arms.values()] == [(2, 2), (4, 8)]
    assert list(arms) == ["depth=2 heads=2", "depth=4 heads=8"]


def test_what_cannot_be_reached_is_refused_by_name():
    with pytest.raises(UserError, match=r"depth=64 is unreachable with hold='params': width \d+ comes nearest with"):
        match(base(), depth=(64,), hold="params", tolerance=0.001)


@pytest.mark.parametrize(
    ("dials", "line"),
    [
        ({}, "needs depth"),
        ({"depth": (1, 2), "heads": (1,)}, "must be as many"),
        ({"heads": (1,), "hold": "heads_total"}, "sets the heads itself"),
    ],
)
def test_dials_that_make_no_sense(dials, line):
    with pytest.raises(UserError, match=line):
        match(base(), **dials)


def test_costs_that_cannot_be_counted_are_left_out_of_the_table_and_cannot_be_held():
    run = base(norm=Spectral())
    assert "train_flops" not in shape(run)
    assert shape(run)["parameters"] == count(run, "params")
    with pytest.raises(UserError, match=r"^cannot count the FLOPs of fft;"):
        match(run, depth=(2,), hold="train_flops")


def test_arms_that_do_not_agree():
    run = base()
    deeper = dataclasses.replace(run, model=dataclasses.replace(run.model, depth=5))
    (problem,) = mismatch(Match("params", 0.01), {"a": run, "b": deeper})
    assert "b has" in problem.line()
    assert not list(mismatch(Match("params", 0.5), {"a": run, "b": deeper}))

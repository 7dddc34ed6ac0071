"""Arms at equal bits: the sizes that are found, by hand, and what is refused."""

import pytest

from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.lookup_free import LookupFree
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped, PerHead
from arch.layers.attention import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from arch.spec import UserError
from experiments.study.equal_bits import at_equal_bits
from experiments.study.match import Match, count, match, mismatch
from train.data.reversal import Reversed
from train.objectives.next_token import NextToken
from train.optim.optimizers import AdamW
from train.run import Run


def run(*at):
    block = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=8), at=at)
    return Run(
        model=Decoder(16, 8, 3, block), data=Reversed(), objective=NextToken(), optimizer=AdamW(), batch=2, steps=1
    )


def test_bits_by_hand():
    assert count(run(), "bits") == 0
    assert count(run(("mlp_out", LookupFree(5)), ("attn.z", PerHead(Codebook(codes=8, k=2)))), "bits") == round(
        3 * (5 + 2 * 4.807355)  # 28 pairs of 8 codes
    )
    assert count(run(("mlp_out", Residual(LookupFree(3), stages=2))), "bits") == 18


def test_the_nearest_size_is_found():
    arms = at_equal_bits(
        {
            "digits": lambda size: run(("mlp_out", LookupFree(size))),
            "groups": lambda size: run(("mlp_out", Grouped(LookupFree(2), size))),
        },
        bits=12,
        tolerance=0.01,
    )
    assert arms["digits"].model.block.at == (("mlp_out", LookupFree(4)),)
    assert arms["groups"].model.block.at == (("mlp_out", Grouped(LookupFree(2), 2)),)  # 3 do not divide the width
    assert not list(mismatch(Match("bits", 1e-9), {"none": run(), **arms}))


def test_what_cannot_be_made_equal():
    with pytest.raises(UserError, match=r"digits comes no nearer to 17 bits a token than 18, 6% off"):
        at_equal_bits({"digits": lambda size: run(("mlp_out", LookupFree(size)))}, bits=17, tolerance=0.01)
    with pytest.raises(UserError, match="heads can be built at no size"):
        at_equal_bits({"heads": lambda size: run(("mlp_out", PerHead(LookupFree(size))))}, bits=17)
    (problem,) = mismatch(
        Match("bits", 0.01), {"a": run(("mlp_out", LookupFree(4))), "b": run(("mlp_out", LookupFree(5))), "c": run()}
    )
    assert "b has 15 bits, +25.0% off a's 12" in problem.allowed
    with pytest.raises(UserError, match="at_equal_bits sets bottlenecks"):
        match(run(), depth=(1, 2), hold="bits")

"""Arms at equal bits: the sizes that are found, by hand, and what is refused."""

import pytest

from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.lookup_free import LookupFree
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped, PerHead
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from arch.spec import UserError
from experiments.study.equal_bits import at_equal_bits, bits_of
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
    found = at_equal_bits({"digits": LookupFree, "groups": lambda size: Grouped(LookupFree(2), size)}, 4, (8,), 0.01)
    # 3 groups do not divide the width.
    assert found == {"digits": LookupFree(4), "groups": Grouped(LookupFree(2), 2)}
    assert at_equal_bits({"heads": lambda size: PerHead(LookupFree(size))}, 6, (2, 4))["heads"] == PerHead(
        LookupFree(3)
    )
    assert bits_of(Codebook(codes=8, k=2), (5,)) == pytest.approx(4.807355)


def test_what_cannot_be_made_equal():
    with pytest.raises(UserError, match=r"groups comes no nearer to 7 bits than 8, 14% off"):
        at_equal_bits({"groups": lambda size: Grouped(LookupFree(4), size)}, 7, (8,), 0.01)
    with pytest.raises(UserError, match="heads can be built at no size up to 64 for values of 8"):
        at_equal_bits({"heads": lambda size: PerHead(LookupFree(size))}, 17, (8,))
    arms = {
        name: run(*at)
        for name, at in {"a": [("mlp_out", LookupFree(4))], "b": [("mlp_out", LookupFree(5))], "c": []}.items()
    }
    assert not list(mismatch(Match("bits", 0.3), arms))
    (problem,) = mismatch(Match("bits", 0.01), arms)
    assert "b has 15 bits, +25.0% off a's 12" in problem.allowed
    with pytest.raises(UserError, match="at_equal_bits sets bottlenecks"):
        match(run(), depth=(1, 2), hold="bits")

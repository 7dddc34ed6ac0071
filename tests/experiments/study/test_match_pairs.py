"""Matching encoder-decoders: counts and FLOPs against closed forms, and runs of two families at equal FLOPs."""

import dataclasses

import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.spec import UserError
from arch.stacks import Cycle
from experiments.study.match import Match, at_equal_flops, count, match, mismatch, shape, step_flops, steps_for
from experiments.study.sweeps.dials import depth_of, turned
from tests.train import toys
from train.data.base import Data
from train.data.description import Description
from train.data.text import Text
from train.objectives.sequence_to_sequence import SequenceToSequence

V, S, T = 48, 24, 10


@dataclasses.dataclass(frozen=True)
class Apart(Data):
    """Sources of 24 tokens and targets of 10; it is described and never built."""

    def describe(self):
        source, target = ((S,), np.int32), ((T + 1,), np.int32)
        arrays = {"source": source, "source_segments": source, "tokens": target, "segments": target}
        return Description(arrays, vocab=V, source_vocab=V)

    def build(self, progress=None):
        raise AssertionError("matching reads no rows")


def pair(source=4, target=2, width=64, cross=CrossAttention(heads=4), pattern=False, **fields):
    block = {"feed_forward": GatedMLP(hidden=168)}
    reads = PreNorm(mixer=Attention(heads=4, mask=Bidirectional()), **block)
    writes = reading(PreNorm(mixer=Attention(heads=4), **block), cross)
    encoder = Trunk(
        vocab=V, width=width, depth=source, block=Cycle((reads, reads)) if pattern else reads, embedding=None
    )
    decoder = Trunk(vocab=V, width=width, depth=target, block=writes)
    model = EncoderDecoder(encoder=encoder, decoder=decoder)
    return toys.run(model=model, data=Apart(), objective=SequenceToSequence(), **fields)


def closed_form(run):
    """Parameters, and FLOPs of training on one row, of a pair with one table."""
    dials = shape(run)
    D, N, K, F = (dials[name] for name in ("width", "heads", "head_dim", "hidden"))
    E, L = dials["source_depth"], dials["target_depth"]
    attention, mlp = 4 * D * N * K, 3 * D * F
    params = V * D + E * (attention + mlp + 2 * D) + L * (2 * attention + mlp + 3 * D) + 2 * D
    encoder = E * (2 * S * (attention + mlp) + 4 * S * S * N * K)
    cross = 2 * (T + S) * (attention // 2) + 4 * T * S * N * K
    decoder = L * (2 * T * (attention + mlp) + 4 * T * T * N * K + cross)
    return {"params": params, "train_flops": 3 * (encoder + decoder + 2 * T * D * V)}


@pytest.mark.parametrize(("hold", "depths"), [("params", [(4, 2), (2, 4)]), ("train_flops", [(3, 3)])])
def test_splits_agree_and_are_what_they_count(hold, depths):
    run = pair()
    arms = match(run, depth=depths, hold=hold, unit=16, tolerance=0.03)
    assert list(arms) == [f"depth={source}+{target}" for source, target in depths]
    assert [depth_of(arm) for arm in arms.values()] == depths
    target = closed_form(turned(run, head_dim=16))[hold]
    for name, arm in arms.items():
        expected = closed_form(arm)
        assert count(arm, hold) == expected[hold] == pytest.approx(target, rel=0.03), name
        assert (shape(arm)["parameters"], shape(arm)["train_flops"]) == tuple(expected.values())
        halves = arm.model.encoder, arm.model.decoder
        assert halves[0].width == halves[1].width
        ((_, cross),) = halves[1].block.extra
        assert cross.heads == halves[0].block.mixer.heads == halves[1].block.mixer.heads
        assert cross.head_dim == 16
    if (4, 2) in depths:
        assert arms["depth=4+2"].model.encoder.width == 64, "the base's own shape is found again"
    assert not list(mismatch(Match(hold, 0.03), arms))


def test_a_memory_width_that_is_written_down_moves_along():
    for written, expected in ((64, 96), (None, None)):
        run = turned(pair(cross=CrossAttention(heads=4, memory_width=written)), width=96)
        ((_, cross),) = run.model.decoder.block.extra
        assert (run.model.encoder.width, run.model.decoder.width, cross.memory_width) == (96, 96, expected)


def test_patterns_turn_together():
    run = turned(pair(pattern=True), depth=(2, 3), width=96, heads=6, head_dim=16, hidden=200)
    told = {"source_depth": 2, "target_depth": 3, "width": 96, "heads": 6, "head_dim": 16, "hidden": 200}
    assert {name: shape(run)[name] for name in told} == told
    for block in (*run.model.encoder.block.blocks, run.model.decoder.block):
        assert (block.mixer.heads, block.feed_forward.hidden) == (6, 200)


@pytest.mark.parametrize(
    ("run", "dials", "line"),
    [
        (pair(), {"depth": (4,)}, r"depth=4: must be \(source, target\), a depth for each half"),
        (pair(), {"depth": [(4, 2, 1)]}, r"depth=\(4, 2, 1\): must be \(source, target\)"),
        (toys.run(), {"depth": [(4, 2)]}, r"depth=\(4, 2\): must be one number"),
        (pair(), {"depth": [(4, 0)]}, "must be at least 1"),
        (pair(), {"depth": [(4, 2)], "hold": "heads_total"}, "a pair has two depths"),
        (pair(cross=CrossAttention(heads=2)), {"depth": [(4, 2)]}, r"extra\.\*\.heads is 2 and .*mixer\.heads is 4"),
    ],
)
def test_what_is_refused(run, dials, line):
    with pytest.raises(UserError, match=line):
        match(run, **dials)


def test_two_families_at_equal_flops():
    """A decoder alone reads source and target as one row of 34 tokens."""
    block = PreNorm(mixer=Attention(heads=4), feed_forward=GatedMLP(hidden=168))
    model = toys.model(vocab=V, width=64, depth=7, block=block)
    alone = toys.run(model=model, data=Text(length=S + T), batch=4, steps=5)
    run = pair(batch=8, steps=1000)
    D, F, N, K, R = 64, 168, 4, 16, S + T
    by_hand = 3 * (7 * (2 * R * (4 * D * D + 3 * D * F) + 4 * R * R * N * K) + 2 * R * D * V) * 4
    assert step_flops(alone) == by_hand
    spent = closed_form(turned(run, head_dim=16))["train_flops"] * 8 * 1000
    assert count(run, "train_flops_total") == spent
    arms = {"pair": run, **at_equal_flops(run, {"decoder": alone})}
    assert arms["decoder"].steps == round(spent / by_hand)
    assert abs(count(arms["decoder"], "train_flops_total") - spent) <= by_hand / 2
    assert dataclasses.replace(arms["decoder"], steps=5) == alone
    assert not list(mismatch(Match("train_flops_total", 0.001), arms))
    assert list(mismatch(Match("train_flops_total", 0.001), {"pair": run, "decoder": alone}))


def test_the_nearest_number_of_steps():
    run = pair()
    one = step_flops(run)
    assert [steps_for(run, flops) for flops in (one, 3 * one // 2 - 1, 3 * one // 2, 10**6 * one + 1)] == [
        1,
        1,
        2,
        10**6,
    ]
    with pytest.raises(UserError, match=r"an update has .* make the batch smaller"):
        steps_for(run, one // 2 - 1)

"""Source and target in one row: built by hand in numpy, packed or alone, and scored as the pairs one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from tests.train import toys
from train.data.reversal import Reversed
from train.objectives.concatenated import Concatenated, PrefixConcatenated
from train.objectives.sequence_to_sequence import SequenceToSequence

DATA = Reversed(length=6, vocab=16)
PAIRS = DATA.build().rows["train"].gather(np.arange(5))
BLOCK = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=16))


def model(mixer=Attention(heads=2), vocab=16):
    return Decoder(vocab=vocab, width=16, depth=1, block=dataclasses.replace(BLOCK, mixer=mixer))


def texts(batch, row):
    """Source and target of a row, without padding."""
    return (batch[name][row][batch[segments][row] > 0] for name, segments in
            (("source", "source_segments"), ("tokens", "segments")))  # fmt: skip


def packed():
    """The first two pairs in one row, and the third in another."""
    rows = {"source": [], "source_segments": [], "source_positions": [], "tokens": [], "segments": [], "positions": []}
    for ensemble in ([0, 1], [2]):
        parts = [tuple(texts(PAIRS, row)) for row in ensemble]
        for side, name, width in ((0, "source", 14), (1, "tokens", 16)):
            pieces = [part[side] for part in parts]
            told = {
                name: np.concatenate(pieces),
                f"{'source_' if side == 0 else ''}segments": np.repeat(range(1, len(pieces) + 1), [*map(len, pieces)]),
                f"{'source_' if side == 0 else ''}positions": np.concatenate([np.arange(len(p)) for p in pieces]),
            }
            for what, array in told.items():
                rows[what].append(np.pad(array, (0, width - len(array))).astype(np.int32))
    return {name: np.stack(arrays) for name, arrays in rows.items()}


@pytest.mark.parametrize("offset", [0, 16])
def test_a_row_is_the_source_then_the_target(offset):
    objective = Concatenated(source_ids="separate" if offset else "shared")
    inputs, targets = objective.build(DATA.describe()).prepare(jax.tree.map(jnp.asarray, PAIRS), None)
    assert inputs.tokens.shape == (5, 12)
    for row in range(5):
        source, target = texts(PAIRS, row)
        whole = np.concatenate([source + offset, target])
        np.testing.assert_array_equal(inputs.tokens[row, : len(whole)], whole[:12])
        np.testing.assert_array_equal(inputs.positions[row, : len(whole)], np.arange(len(whole))[:12])
        np.testing.assert_array_equal(inputs.segments[row], np.arange(12) < len(whole))
        weights = np.zeros(12)
        weights[len(source) : len(whole) - 1] = 1
        np.testing.assert_array_equal(targets.weights[row], weights)
        np.testing.assert_array_equal(np.asarray(targets.tokens[row])[weights > 0], target[1:])


@pytest.mark.parametrize("objective", [Concatenated(), PrefixConcatenated()])
def test_packed_pairs_are_scored_as_each_by_itself(objective):
    """One by one without padding, and with the targets of `SequenceToSequence`."""
    network = model().build(rngs=nnx.Rngs(0))
    task, batch = objective.build(DATA.describe()), jax.tree.map(jnp.asarray, packed())
    score = jax.jit(lambda batch: task.loss(network(task.prepare(batch, None)[0]), task.prepare(batch, None)[1]))
    found = score(batch)
    total = 0.0
    for row in range(3):
        source, target = texts(PAIRS, row)
        tokens = jnp.asarray(np.concatenate([source, target]), jnp.int32)[None, :-1]
        prefix = jnp.arange(tokens.shape[1])[None] < len(source)
        mine = Inputs(tokens, prefix=prefix if isinstance(objective, PrefixConcatenated) else None)
        logits = np.asarray(jax.nn.log_softmax(network(mine).logits)[0, len(source) :])
        total -= logits[np.arange(len(target) - 1), target[1:]].sum()
    assert float(found.total) == pytest.approx(total, rel=1e-5)
    _, targets = SequenceToSequence().build(DATA.describe()).prepare(batch, None)
    assert float(found.weight) == float(targets.weights.sum()) > 10


def test_vocabularies_of_both_sides():
    data = dataclasses.replace(DATA.describe(), vocab=10, source_vocab=20)
    assert Concatenated().needs(data)["vocab"][0] == 20
    assert Concatenated(source_ids="separate").needs(data)["vocab"][0] == 30
    run = toys.run(model=model(vocab=15), data=DATA, objective=Concatenated())
    (error,) = run.conflicts()
    assert str(error) == "Decoder.vocab=15: must be at least 16, the tokens of the data"
    (error,) = dataclasses.replace(run, objective=Concatenated(source_ids="separate"), model=model()).conflicts()
    assert str(error) == "Decoder.vocab=16: must be at least 32, the tokens of the data, source and target"


@pytest.mark.parametrize("mixer", [LinearAttention(heads=2, mask=Causal()), Attention(heads=2, mask=SlidingWindow(4))])
def test_a_mixer_that_knows_of_no_prefix_is_refused(mixer):
    run = toys.run(model=model(mixer), data=DATA, objective=PrefixConcatenated())
    (error,) = run.conflicts()
    name = type(mixer).__name__
    assert f"must know of prefixes, which mixer={name} does not; Attention with mask=Causal() does" in str(error)
    assert not list(dataclasses.replace(run, objective=Concatenated()).conflicts())

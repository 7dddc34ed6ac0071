"""Span corruption against loops in numpy: partitions, the pair that is made, and that nothing of the text is lost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from experiments.config.errors import ConfigError
from tests.extension.harness import command_line
from tests.train import toys
from train.data.description import Description
from train.estimate import row_flops
from train.objectives.concatenated import PrefixConcatenated
from train.objectives.span_corruption import Denoiser, SpanCorruption
from train.objectives.spans import corrupted, counts, noise_mask
from train.objectives.ul2 import UL2

V, T = 100, 60
DATA = Description(dict.fromkeys(("tokens", "segments"), ((T,), np.int32)), vocab=V)
RNG = np.random.default_rng(0)


def partition(draw, count):
    """Lengths of a partition of len(draw) + 1 things into `count` parts, cut where the numbers are the smallest."""
    cuts = np.sort(np.argsort(draw, kind="stable")[: count - 1]) + 1
    return np.diff([0, *cuts, len(draw) + 1])


def expected_mask(draw, n, noise, spans):
    spans_of, gaps = partition(draw[1:noise], spans), partition(draw[noise + 1 : n], spans)
    return np.concatenate([np.repeat([False, True], pair) for pair in zip(gaps, spans_of, strict=True)])


def batch(lengths):
    """Rows of random text of these lengths."""
    there = np.arange(T)[None] < np.asarray(lengths)[:, None]
    tokens = RNG.integers(0, V, there.shape) * there
    return {"tokens": jnp.asarray(tokens, jnp.int32), "segments": jnp.asarray(there, jnp.int32)}


def row(pair, index):
    """Source and target without padding, as lists."""
    return (np.asarray(pair[a])[index][np.asarray(pair[b])[index] > 0].tolist() for a, b in
            (("source", "source_segments"), ("tokens", "segments")))  # fmt: skip


def reassembled(source, target, first):
    """The text: each sentinel of the source replaced with what follows it in the target."""
    spans, name = {}, None
    for token in target:
        if token >= first:
            name = token
            assert name not in spans
            spans[name] = []
        else:
            spans[name].append(token)
    assert spans.pop(name) == [], "the last sentinel ends the target"
    found = [piece for token in source for piece in (spans.pop(token) if token >= first else [token])]
    assert not spans
    return found


@pytest.mark.parametrize(
    ("n", "noise", "spans"), [(60, 9, 3), (40, 6, 2), (41, 20, 7), (2, 1, 1), (60, 30, 30), (9, 8, 1)]
)
def test_spans_and_gaps_are_partitions_in_turn(n, noise, spans):
    draw = RNG.random(T).astype(np.float32)
    mask = np.asarray(jax.jit(noise_mask)(jnp.asarray(draw), *map(jnp.int32, (n, noise, spans))))
    np.testing.assert_array_equal(mask[:n], expected_mask(draw, n, noise, spans))
    assert not mask[n:].any()
    assert mask.sum() == noise
    assert (np.diff(mask.astype(int)) == 1).sum() == spans


def test_all_partitions_are_equally_likely():
    """5 tokens of noise in 3 spans: 6 partitions."""
    draws = jax.random.uniform(jax.random.key(0), (6000, 12))
    masks = np.asarray(
        jax.jit(jax.vmap(lambda draw: noise_mask(draw, jnp.int32(12), jnp.int32(5), jnp.int32(3))))(draws)
    )
    found = {}
    for mask in masks:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
        lengths = tuple(edges[1::2] - edges[::2])
        found[lengths] = found.get(lengths, 0) + 1
    assert len(found) == 6
    assert max(abs(count - 1000) for count in found.values()) < 3.5 * np.sqrt(6000 / 6 * 5 / 6)


def test_how_many():
    """T5's counts at 512 tokens; the least and the most."""
    noise, spans = counts(np.array([512, 2, 1, 0, 3]), 0.15, 3.0)
    assert noise.tolist() == [77, 1, 0, 0, 1]
    assert spans.tolist() == [26, 1, 0, 0, 1]
    assert [int(x) for x in counts(np.array(40), 0.25, None)] == [10, 1]
    assert [int(x) for x in counts(np.array(4), 1.0, 1.0)] == [3, 1]


def test_the_pair_of_the_paper():
    text = jnp.array([1, 2, 3, 4, 5, 6, 7, 8, 0, 0], jnp.int32)
    mask = jnp.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 0], bool)
    pair = corrupted(text, mask, jnp.int32(8), 100, (7, 9))
    assert pair["source"].tolist() == [1, 2, 100, 5, 6, 101, 0]
    assert pair["tokens"].tolist() == [100, 3, 4, 101, 7, 8, 102, 0, 0]
    assert pair["source_segments"].tolist() == [1] * 6 + [0]
    assert pair["segments"].tolist() == [1] * 7 + [0, 0]


@pytest.mark.parametrize("objective", [SpanCorruption(), SpanCorruption(density=0.5, mean_span=1.0), UL2()])
def test_source_and_target_are_the_text(objective):
    """Rows of every length, exactly, within the sizes and the ids that are announced."""
    lengths = np.arange(T + 1)
    given, keys = batch(lengths), jax.random.split(jax.random.key(2), T + 1)
    pair = jax.jit(lambda given, keys: objective.pair(given, keys, DATA))(given, keys)
    modes = len(objective.modes)
    source_size, target_size, sentinels = objective.sizes(DATA)
    assert pair["source"].shape[1] == source_size
    assert pair["tokens"].shape[1] == target_size
    highest = 0
    for index, n in enumerate(lengths):
        source, target = row(pair, index)
        text = np.asarray(given["tokens"])[index, :n].tolist()
        if modes:
            mode = source.pop(0)
            assert V <= mode < V + modes
        highest = max([highest, *target])
        assert (reassembled(source, target, V + modes) if n >= 2 else source) == text
        assert bool(target) == (n >= 2)
    assert highest < V + objective.extra_tokens(DATA)
    if not modes:
        assert highest == V + sentinels - 1


def test_a_row_is_drawn_by_its_key_alone():
    objective, given = UL2(), batch([T] * 6)
    keys = jax.random.split(jax.random.key(5), 6)
    draw = jax.jit(lambda given, keys: objective.pair(given, keys, DATA))
    whole = draw(given, keys)
    part = draw(jax.tree.map(lambda x: x[3:5], given), keys[3:5])
    jax.tree.map(lambda one, two: np.testing.assert_array_equal(one[3:5], two), whole, part)


def test_the_denoisers_of_ul2_are_all_drawn_and_told_by_their_modes():
    """By what each hides: S the last quarter, R at most 15 %, X half or long spans."""
    objective = UL2()
    pair = jax.jit(lambda given, keys: objective.pair(given, keys, DATA))(
        batch([T] * 300), jax.random.split(jax.random.key(7), 300)
    )
    seen = {}
    for index in range(300):
        (mode, *source), target = row(pair, index)
        kind, spans = "RSX"[mode - V], sum(token >= V for token in source)
        noise = sum(token < V for token in target)
        seen.setdefault(kind, set()).add((noise, spans))
        assert kind != "S" or source[-1] >= V
    assert seen == {"R": {(9, 3), (9, 1)}, "S": {(15, 1)}, "X": {(30, 10), (30, 4), (9, 1), (30, 1)}}


def test_a_vocabulary_without_room_for_sentinels_is_refused():
    words = ("model=EncoderDecoder(encoder=Trunk(vocab=32,width=16,depth=1,block=PreNorm(mixer=Attention(heads=2,"
             "mask=Bidirectional()))),decoder=Trunk(vocab=34,width=16,depth=1,block=PreNorm(mixer=Attention(heads=2),"
             "extra=((cross,CrossAttention(heads=2)),))),head=Untied)")  # fmt: skip
    run = dataclasses.replace(command_line(), objective=SpanCorruption())
    assert any("model" in str(error) and "must be Seq2Seq" in str(error) for error in run.conflicts())
    with pytest.raises(ConfigError) as told:
        command_line(words, "objective=SpanCorruption(mean_span=1)")
    needed = "must be at least 36, the tokens of the data and the 4 of SpanCorruption"
    for line, field in zip(str(told.value).splitlines(), ("vocab=34", "source_vocab=32"), strict=True):
        assert line.endswith(f" {field}: {needed}")
    alone = Decoder(vocab=35, width=16, depth=1, block=PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=8)))
    run = toys.run(model=alone, objective=SpanCorruption(pairs=PrefixConcatenated(), mean_span=1.0))
    assert "Decoder.vocab=35: must be at least 36" in str(next(iter(run.conflicts())))
    fitting = dataclasses.replace(run, model=dataclasses.replace(alone, vocab=36))
    assert not list(fitting.conflicts())
    assert row_flops(fitting) > 0
    widened = words.replace("vocab=32", "vocab=36").replace("vocab=34", "vocab=36")
    assert row_flops(command_line(widened, "objective=SpanCorruption(mean_span=1)")) > 0


def test_a_mixture_is_of_one_kind():
    with pytest.raises(ValueError, match="all have a mode or none"):
        UL2(denoisers=(Denoiser(mode="R"), Denoiser()))
    with pytest.raises(ValueError, match="must be some"):
        UL2(denoisers=())

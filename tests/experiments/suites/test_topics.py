"""Steering by topic: words, named codes and controls by hand; one model that writes."""

import dataclasses
import sys
import types

import jax
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import Grouped
from arch.bottlenecks.sim_vq import SimVQ
from arch.bottlenecks.top_k import TopK
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from experiments.suites.base import Asked
from experiments.suites.topics import TopicSteering, controls, named_codes, topic_words, word_rate
from train.data.pydoc_sections import PydocSections
from train.data.text import Text
from train.data.tokenizers import Bytes
from train.optim import AdamW, Constant
from train.run import Run
from train.setup import prepare
from train.trained import TrainedRun


def test_words_of_a_topic_by_hand():
    texts = [("Cat cat the cat cat. Cat the", "pets"), ("the bus the bus bus bus bus cat_ a", "cars")]
    assert topic_words(texts, "pets") == {"cat"}
    assert topic_words(texts, "cars") == {"bus"}
    assert word_rate(["The cat", "of a CAT: bus"], {"cat"}) == 2 / 4
    assert word_rate(["?"], {"cat"}) == 0


def test_named_codes_by_hand():
    """Code 3 fires on the topic alone but too rarely, code 1 four times as often as elsewhere."""
    here, rest = np.array([[[50, 40, 9, 1]]]), np.array([[[60, 10, 30, 0]]])
    np.testing.assert_array_equal(named_codes(here, rest, 0.02), [[1]])
    np.testing.assert_array_equal(named_codes(here, np.array([[[60, 40, 1, 0]]]), 0.02), [[2]])


def test_controls_are_near_in_frequency_and_then_in_length():
    counts = np.arange(20, 0, -1)[None, None] * np.array([1] * 19 + [0])
    lengths = np.ones((1, 1, 20))
    lengths[..., [10, 16, 0]] = 7.0, 7.0, 7.1
    lengths[..., 12] = 6.0
    np.testing.assert_array_equal(controls(np.array([[10]]), counts, lengths), [[12]])  # 0 and 16 are too far away
    np.testing.assert_array_equal(controls(np.array([[0]]), counts, lengths), [[1]])
    alone = np.array([[[0, 3, 0]]])
    np.testing.assert_array_equal(controls(np.array([[1]]), alone, np.ones((1, 1, 3))), [[1]])


@pytest.fixture
def opened(monkeypatch):
    text = {"a": "\n\n".join(f"cat dog{i}" for i in range(12)), "b": "\n\n".join(f"bus car{i}" for i in range(12))}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", types.SimpleNamespace(topics=text))
    source = PydocSections((("pets", ("a",)), ("cars", ("b",))), validation=0.2, test=0.2)
    block = PreNorm(
        mixer=Attention(heads=2), feed_forward=MLP(), at=(("mlp_out", Grouped(Codebook(5, k=2, prenorm="layer"), 2)),)
    )
    run = Run(Decoder(256, 8, 2, block), Text(source, Bytes(), length=32), optimizer=AdamW(1e-2, Constant()), batch=2)
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    state = program.start()
    params = jax.tree.map(lambda x: x * 8.0 if x.ndim > 1 else x, state["params"])
    return TrainedRun(program, {**state, "params": params}, dataset, 0)


def test_counts_are_of_the_tokens_of_each_topic_and_all_modes_are_written(opened):
    score = TopicSteering(rows=2, new=6)
    texts = list(opened.program.run.data.source.build().columns("train", "text", "section"))
    counts = score._counts(Asked(opened, "train", 2), texts)
    assert list(counts) == ["cars", "pets"]
    for topic, found in counts.items():
        assert found.shape == (2, 2, 5)
        tokens = sum(1 + len(text) for text, name in texts if name == topic)
        np.testing.assert_array_equal(found.sum(axis=-1), 2 * tokens)  # k = 2 codes of each group and layer
    told = score.measure(Asked(opened, "test", 2))
    assert {f"topic_{mode}_score" for mode in ("none", "one", "all", "random_one", "random_all")} < set(told)
    assert told["topic_all_margin_score"] == told["topic_all_score"] - told["topic_one_score"]
    assert score.refusal(opened.program.run) == ""
    block = opened.program.run.model.block
    sparse = dataclasses.replace(block, at=(("mlp_out", TopK(12, k=3)),))
    run = dataclasses.replace(opened.program.run, model=dataclasses.replace(opened.program.run.model, block=sparse))
    assert "have amplitudes" in score.refusal(run)


def test_codes_of_any_quantiser_have_vectors(opened):
    """SimVQ keeps no table of them."""
    block = dataclasses.replace(opened.program.run.model.block, at=(("mlp_out", SimVQ(5)),))
    run = dataclasses.replace(opened.program.run, model=dataclasses.replace(opened.program.run.model, block=block))
    program = prepare(run, opened.dataset.description)
    told = TopicSteering(rows=2, new=6).measure(
        Asked(TrainedRun(program, program.start(), opened.dataset, 0), "test", 2)
    )
    assert "topic_random_one_score" in told

"""Written prefixes: each token against a model that reads everything anew, the loss after them, its gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from arch.blocks import PreNorm
from arch.cost import abstract
from arch.decode.sampling import Greedy, Sample
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.positions import Learned
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.params import merge, nest, split
from arch.spec import SpecError
from tests.arch import tiny
from tests.extension.harness import difference, steps
from tests.extension.parts.teacher import Drawn
from tests.train import toys
from tests.train.objectives.bigram import Bigram
from tests.train.objectives.test_concatenated import PAIRS, model
from train.data.description import Description
from train.data.reversal import Reversed
from train.forward import Forward, numbered
from train.objectives.concatenated import Concatenated, PrefixConcatenated
from train.objectives.distillation import Distill, aligned
from train.objectives.divergences import ForwardKL, JensenShannon, ReverseKL
from train.objectives.next_token import NextToken
from train.objectives.prefix_sources import GoldPrefixes, StudentPrefixes, TeacherPrefixes
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.optim import AdamW, Constant
from train.run import Run
from train.sharding.mesh import Mesh
from train.starts.beside import graphs
from train.starts.frozen import Pretrained

DATA = Reversed(length=6, vocab=16)
KEYS = jax.random.split(jax.random.key(5), 5)
ENCODING = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=8))
DECODING = reading(PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=8)), CrossAttention(heads=2))
PAIR = EncoderDecoder(
    encoder=Trunk(16, 16, 1, ENCODING, embedding=None), decoder=Trunk(16, 16, 1, DECODING, position=Learned(length=6))
)
READERS = {
    "encoder-decoder": (PAIR, SequenceToSequence()),
    "decoder, learned positions": (dataclasses.replace(model(), position=Learned(length=12)), Concatenated()),
    "decoder, prefix": (model(), PrefixConcatenated()),
    "decoder, ids apart": (model(vocab=32), Concatenated(source_ids="separate")),
}


def arrays(spec, seed=0):
    """A model without its parameters, and parameters drawn by numpy."""
    return split(abstract(spec))[0], jax.tree.map(jnp.asarray, nest(Drawn(spec, seed=seed).arrays()["params"]))


SLOW = {"decoder, prefix", "decoder, ids apart"}


@pytest.mark.parametrize("kind", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in READERS])
def test_each_token_is_drawn_after_all_that_was_written(kind):
    """From the logits of a model that reads source and prefix anew each time, by the key of the row and the step, among
    the first ten tokens; sources are of unequal lengths."""
    spec, objective = READERS[kind]
    graphdef, params = arrays(spec)
    task, source = objective.build(DATA.describe()), StudentPrefixes(Sample(temperature=0.5))
    batch = {name: jnp.asarray(array) for name, array in PAIRS.items()}
    assert len(set(np.asarray(batch["source_segments"]).sum(1))) > 2

    @tiny.jit
    def write(params):
        net = merge(graphdef, params, {})
        return source.batch(net, lambda batch: task.prepare(batch, None), batch, KEYS, 10)

    @tiny.jit
    def anew(params, tokens):
        inputs, targets = task.prepare({**batch, "tokens": tokens, "segments": jnp.ones_like(tokens)}, None)
        logits = merge(graphdef, params, {})(inputs).logits
        return aligned(logits, targets.weights, jnp.ones((5, 6)))

    found = jax.device_get(write(params))
    tokens = np.array(batch["tokens"]) * (np.arange(7) == 0)
    for step in range(6):
        logits = anew(params, jnp.asarray(tokens))[:, step, :10]
        for row in range(5):
            key = jax.random.fold_in(KEYS[row], step)
            tokens[row, step + 1] = source.sampler(logits[row : row + 1], key)[0]
    there = PAIRS["segments"] > 0
    np.testing.assert_array_equal(found["tokens"], tokens * there)
    np.testing.assert_array_equal(found["segments"], PAIRS["segments"])
    assert len({tuple(row) for row in tokens}) == 5
    assert (tokens[:, 1:] != PAIRS["tokens"][:, 1:]).any(1).all()


TARGETS = {"source": [[1], [2], [1], [0]], "tokens": [[0, 1, 2, 1], [0, 2, 2, 0], [0, 1, 1, 2], [0, 0, 0, 0]]}
THERE = {"source_segments": [[1], [1], [1], [0]], "segments": [[1] * 4, [1, 1, 0, 0], [1] * 4, [0] * 4]}
WORDS = {name: jnp.asarray(array, jnp.int32) for name, array in {**TARGETS, **THERE}.items()}
"""For a model of three words; the last row fills up the batch."""


def bigram(objective, batch=WORDS, seed=1):
    """`(params, key) -> (sums, gradient of the divergence and of the own loss)`, parameters of the student and of the
    teacher (those of seed 0)."""
    graphdef, mine = arrays(Bigram(), seed)
    _, theirs = arrays(Bigram())
    task = objective.build(Description({}, vocab=3))
    forward = Forward(graphdef, task, beside=graphs(objective.frozen)[0])
    frozen = {"teacher": {"params": theirs, "buffers": {}}}

    @tiny.jit
    def learn(params):
        def total(params):
            sums, _ = forward.holding(frozen)(params, {}, numbered(batch), None, jax.random.key(3), training=True)
            return sums.losses["distillation"].value + sums.loss.total / sums.loss.weight, sums

        grads, sums = jax.grad(total, has_aux=True)(params)
        return sums, grads["table"]

    return learn, mine, theirs, forward.holding(frozen)


def distill(prefixes, **fields):
    return Distill(Pretrained(Bigram(), Drawn(Bigram())), prefixes=prefixes, **{"alpha": 1.0, **fields})


def written(forward, params, batch=WORDS):
    """What the forward pass reads of the batch, and what it is taught."""
    return tiny.jit(lambda params: forward.inputs(params, {}, numbered(batch), jax.random.key(3)))(params)


@pytest.mark.parametrize(
    ("prefixes", "divergence"),
    [
        (StudentPrefixes(end=2), ForwardKL()),
        (StudentPrefixes(end=2), ReverseKL()),
        (TeacherPrefixes(end=2), JensenShannon(0.3)),
    ],
)
def test_the_loss_is_the_mean_over_sentences_of_the_mean_over_their_steps(prefixes, divergence):
    """Against float64 over the tables of both models; nothing is left where they are one."""
    learn, mine, theirs, forward = bigram(distill(prefixes, divergence=divergence, alpha=0.7))
    inputs, _ = written(forward, mine)
    assert inputs.tokens.shape == (8, 3)
    np.testing.assert_array_equal(inputs.tokens[::2], WORDS["tokens"][:, :-1])
    p, q = (log_softmax(np.asarray(one["table"], np.float64), -1) for one in (theirs, mine))
    told, lengths = [], set()
    for row in range(3):
        words = np.asarray(inputs.tokens[2 * row + 1])
        ends = np.flatnonzero(words == 2)
        steps_ = 3 if len(ends) == 0 else ends[0]  # the step that reads the end is none
        which = int(WORDS["source"][row, 0]) % 2
        each = [divergence(jnp.float32(p[which, word]), jnp.float32(q[which, word])) for word in words[:steps_]]
        told.append(np.mean(each))
        lengths.add(steps_)
    assert len(lengths) > 1
    sums, gradient = learn(mine)
    assert float(sums.losses["distillation"].value) == pytest.approx(0.7 * np.mean(told), rel=1e-5)
    assert np.abs(gradient).max() > 1e-3
    same, _ = learn(theirs)
    assert abs(float(same.losses["distillation"].value)) < 1e-6


@pytest.mark.parametrize("prefixes", [StudentPrefixes(), TeacherPrefixes(Greedy())])
def test_what_was_written_is_a_target_like_any_other(prefixes):
    """The divergence and its gradient are those of the same sentences as data: none goes through the writing."""
    three = {name: array[jnp.array([0, 2, 0])] for name, array in WORDS.items()}  # equally long: both means are one
    learn, mine, _, forward = bigram(distill(prefixes), three)
    inputs, _ = written(forward, mine, three)
    prefix = inputs.tokens[1::2]
    data = {**three, "tokens": jnp.concatenate([prefix, jnp.zeros((3, 1), jnp.int32)], axis=1)}
    gold, *_ = bigram(distill(GoldPrefixes()), data)
    (sums, gradient), (expected, reference) = learn(mine), gold(mine)
    np.testing.assert_allclose(sums.losses["distillation"].value, expected.losses["distillation"].value, rtol=1e-5)
    np.testing.assert_allclose(gradient, reference, atol=1e-6)
    assert np.abs(gradient).max() > 1e-3
    assert (np.asarray(prefix) != np.asarray(three["tokens"])[:, :-1]).any()


def test_the_students_own_loss_is_that_of_the_data():
    learn, mine, _, _ = bigram(distill(StudentPrefixes(end=2), alpha=0.0))
    sums, gradient = learn(mine)
    forward = Forward(arrays(Bigram())[0], SequenceToSequence().build(Description({}, vocab=3)))

    def total(params):
        plain, _ = forward(params, {}, numbered(WORDS), None, jax.random.key(0), training=True)
        return plain.loss.total / plain.loss.weight, plain.loss

    expected, loss = tiny.jit(jax.grad(total, has_aux=True))(mine)
    np.testing.assert_allclose(gradient, expected["table"], atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), sums.loss, loss)


def test_the_share_of_rows_that_are_written():
    rows = {name: jnp.tile(array[:1], (400, 1)) for name, array in WORDS.items()}
    graphdef, params = arrays(Bigram())
    keys = jax.random.split(jax.random.key(0), 400)

    read = SequenceToSequence().build(Description({}, vocab=3)).prepare

    def changed(model, share):
        source = StudentPrefixes(share=share, end=2)
        found = source.batch(model, lambda batch: read(batch, keys), rows, keys, None)
        return jnp.any(found["tokens"] != rows["tokens"], axis=1).mean()

    shares = tiny.jit(lambda params: [changed(merge(graphdef, params, {}), share) for share in (0.0, 0.5, 1.0)])
    none, half, every = map(float, shares(params))
    assert none == 0
    assert half == pytest.approx(every / 2, abs=0.1)
    assert every > 0.5


@pytest.mark.slow
def test_a_run_writes_the_same_in_micro_batches():
    toy = Run(
        model=Bigram(vocab=8),
        data=Reversed(length=4, vocab=8, rows=16, held_out=6),
        objective=Distill(Pretrained(Bigram(vocab=8), Drawn(Bigram(vocab=8))), prefixes=StudentPrefixes(end=1)),
        optimizer=AdamW(learning_rate=1e-2, schedule=Constant(), eps=1e-3),
        batch=8,
        steps=2,
        mesh=Mesh(data=1),
    )
    whole, parts = steps(toy), steps(dataclasses.replace(toy, accumulate=2))
    for one, two in zip(whole.told, parts.told, strict=True):
        for name, value in one.items():
            np.testing.assert_allclose(two[name], value, rtol=1e-5, err_msg=name)
    assert difference(whole.state["params"], parts.state["params"]) < 1e-6
    assert difference(whole.state["params"], whole.first["params"]) > 1e-3


def test_what_cannot_be_written_is_refused():
    with pytest.raises(SpecError, match="must read pairs for StudentPrefixes"):
        Distill(Pretrained(model(), Drawn(model())), objective=NextToken(), prefixes=StudentPrefixes())
    with pytest.raises(SpecError, match=r"share=1\.5"):
        TeacherPrefixes(share=1.5)
    spec = Distill(Pretrained(model(), Drawn(model())), objective=Concatenated(), prefixes=TeacherPrefixes())
    packed = Description(dict.fromkeys(("tokens", "positions"), ((7,), np.int32)), vocab=16, source_vocab=16)
    (found,) = spec.unfit(model(), packed)
    assert "must be GoldPrefixes() for rows of several pairs" in str(found)
    assert not list(toys.run(model=model(), data=DATA, objective=spec).conflicts())

"""Distillation: divergences in float64, their gradients, the alignment of two kinds of models, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from arch.blocks import PreNorm
from arch.cost import abstract
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Output
from arch.models.decoder import Decoder
from arch.params import nest, split
from arch.spec import SpecError, UserError
from tests.arch import tiny
from tests.extension.parts.teacher import Drawn
from tests.train import toys
from tests.train.objectives.test_concatenated import PAIRS, packed
from train.data.reversal import Reversed
from train.forward import Forward, numbered
from train.objectives.concatenated import Concatenated, PrefixConcatenated
from train.objectives.distillation import Distill, aligned
from train.objectives.divergences import ForwardKL, JensenShannon, ReverseKL
from train.objectives.next_token import NextToken
from train.objectives.policy_gradient import PolicyGradient
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.record.checkpoint import Checkpoints
from train.record.identity import identify
from train.setup import prepare
from train.sharding.mesh import Mesh
from train.starts.beside import graphs
from train.starts.frozen import Pretrained, load, placed
from train.starts.start import FromRun
from train.step import StepFunctions

DATA = Reversed(length=6, vocab=16).describe()
RNG = np.random.default_rng(0)


def decoder(vocab=16):
    return Decoder(vocab=vocab, width=16, depth=1, block=PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=8)))


def teacher(vocab=16):
    return Pretrained(decoder(vocab), Drawn(decoder(vocab)))


def logs(vocab=7):
    return (log_softmax(3 * RNG.standard_normal((4, vocab)), -1) for _ in range(2))


def kl(p, q):
    return (np.exp(p) * (p - q)).sum(-1)


def test_divergences():
    p, q = logs()
    middle = np.log(0.3 * np.exp(p) + 0.7 * np.exp(q))
    expected = {
        ForwardKL(): kl(p, q),
        ReverseKL(): kl(q, p),
        JensenShannon(0.3): 0.3 * kl(p, middle) + 0.7 * kl(q, middle),
    }
    for divergence, value in expected.items():
        np.testing.assert_allclose(divergence(jnp.float32(p), jnp.float32(q)), value, rtol=2e-5)
        np.testing.assert_allclose(divergence(jnp.float32(p), jnp.float32(p)), 0, atol=1e-6)
    np.testing.assert_allclose(JensenShannon(0.5)(p, q), JensenShannon(0.5)(q, p), rtol=1e-5)


def test_the_gradient_of_the_forward_divergence_is_the_difference_of_the_distributions():
    """p_S - p_T with respect to the student's logits; finite differences of the formula in float64 agree."""
    theirs, mine = RNG.standard_normal((2, 7))
    objective = Distill(teacher(), alpha=1.0)
    score = lambda logits: objective.divergence(  # noqa: E731
        jax.nn.log_softmax(jnp.float32(theirs)), objective.log_probabilities(logits, 7)
    )
    gradient = jax.grad(score)(jnp.float32(mine))
    np.testing.assert_allclose(gradient, softmax(mine) - softmax(theirs), atol=1e-6)
    value = lambda logits: kl(log_softmax(theirs), log_softmax(logits))  # noqa: E731
    steps = 1e-5 * np.eye(7)
    np.testing.assert_allclose(gradient, [(value(mine + e) - value(mine - e)) / 2e-5 for e in steps], atol=1e-6)


class Table:
    """A teacher that is a lookup table: its logits at a place say which tokens it has read there."""

    def __call__(self, inputs):
        place = jnp.broadcast_to(jnp.arange(inputs.tokens.shape[1]), inputs.tokens.shape)
        return Output(jnp.stack([inputs.tokens, inputs.positions, inputs.segments, place], axis=-1).astype(jnp.float32))


@pytest.mark.parametrize("batch", [PAIRS, packed()], ids=["one pair a row", "packed"])
@pytest.mark.parametrize("reads", [Concatenated(), PrefixConcatenated()])
def test_student_steps_meet_the_teachers_of_the_same_target(batch, reads):
    """An encoder-decoder's step that has read token t of target d: the teacher has read it too, behind its source."""
    batch = jax.tree.map(jnp.asarray, batch)
    task = Distill(teacher(), reads=reads).build(DATA)
    inputs, targets = jax.jit(lambda batch: task.prepare(batch, None, teacher=Table()))(batch)
    told, weights = np.asarray(targets.logits), np.asarray(targets.own.weights) > 0
    assert weights.sum() > 10
    np.testing.assert_array_equal(told[..., 0][weights], np.asarray(inputs.tokens)[weights])
    np.testing.assert_array_equal(told[..., 2][weights], np.asarray(inputs.segments)[weights])
    positions = (
        np.asarray(inputs.positions) if inputs.positions is not None else np.arange(inputs.tokens.shape[1])[None]
    )
    sources = np.stack([(np.asarray(batch["source_segments"]) == document).sum(1) for document in range(3)], axis=1)
    length = np.take_along_axis(sources, np.asarray(inputs.segments), axis=1)
    np.testing.assert_array_equal(told[..., 1][weights], (length + positions)[weights])
    np.testing.assert_array_equal(targets.own.tokens, batch["tokens"][:, 1:])


def test_steps_that_are_no_targets_go_on_from_the_last():
    logits = jnp.arange(6, dtype=jnp.float32)[None, :, None]
    found = aligned(logits, jnp.array([[0, 0, 1, 1, 0, 0.0]]), jnp.array([[1, 1, 0, 0, 0, 0.0]]))
    assert found[0, :, 0].tolist() == [2, 3, 4, 5, 5, 5]


@pytest.mark.parametrize("compat", ["paper", "unmasked"])
def test_the_loss_is_the_sum_of_both_shares(compat):
    """Against numpy, with a teacher of a larger vocabulary, which is cut before the softmax."""
    objective = Distill(teacher(20), reads=Concatenated(), alpha=0.7, temperature=2.0, compat=compat)
    theirs, mine = RNG.standard_normal((5, 12, 20)), RNG.standard_normal((5, 6, 16))
    task = objective.build(DATA)
    call = lambda inputs: Output(jnp.asarray(theirs, jnp.float32))  # noqa: E731

    @tiny.jit
    def score(batch):
        _, targets = task.prepare(batch, None, teacher=call)
        output = Output(jnp.asarray(mine, jnp.float32))
        return targets, task.loss(output, targets), task.losses(output, targets)["distillation"]

    targets, loss, part = score(jax.tree.map(jnp.asarray, PAIRS))
    weights, nats, told = np.asarray(targets.own.weights), 0.0, 0.0
    for row in range(5):
        first = int((PAIRS["source_segments"][row] > 0).sum())
        for step in range(6):
            if weights[row, step]:
                nats -= log_softmax(mine[row, step])[PAIRS["tokens"][row, step + 1]]
            if weights[row, step] or compat == "unmasked":
                there = min(first + step, 11)
                told += 4 * kl(log_softmax(theirs[row, there, :16] / 2), log_softmax(mine[row, step] / 2))
    assert float(part.weight) == (30 if compat == "unmasked" else weights.sum())
    assert float(part.total) == pytest.approx(0.7 * told, rel=1e-5)
    assert float(loss.total) == pytest.approx(0.3 * nats, rel=1e-5)
    assert float(objective.metrics(loss)["loss"]) == pytest.approx(nats / weights.sum(), rel=1e-5)


def test_a_student_that_is_its_teacher_learns_nothing():
    """The divergence and its gradient are zero; those to another teacher are not."""
    model = decoder(32)
    spec = Pretrained(model, Drawn(model))
    objective = Distill(spec, objective=NextToken(), alpha=1.0)
    graphdef, _, _ = split(abstract(model))
    shapes = placed({"teacher": spec}, Mesh(data=1).build(None), jnp.float32)
    frozen = load({"teacher": spec}, shapes)
    forward = Forward(graphdef, objective.build(toys.Toy().describe()), beside=graphs(objective.frozen)[0])
    batch = {name: jnp.asarray(array[:4]) for name, array in toys.ToyRows(4, 0).arrays.items()}

    @tiny.jit
    def learn(params, frozen):
        def total(params):
            sums, _ = forward.holding(frozen)(params, {}, numbered(batch), None, jax.random.key(0), training=True)
            return StepFunctions.total(sums), sums.losses["distillation"].value

        return jax.grad(total, has_aux=True)(params)

    largest = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))  # noqa: E731
    grads, value = learn(frozen["teacher"]["params"], frozen)
    assert abs(float(value)) < 1e-6
    assert largest(grads) < 1e-4
    grads, value = learn(jax.tree.map(lambda leaf: leaf * 1.5, frozen["teacher"]["params"]), frozen)
    assert float(value) > 1e-3
    assert largest(grads) > 1e-2


def test_a_teacher_from_a_run_and_what_it_is_known_by(tmp_path):
    model = decoder()
    spec = Pretrained(model, FromRun(str(tmp_path)))
    state = {"step": jnp.int32(1), "params": nest(Drawn(model).arrays()["params"]), "buffers": {}, "opt_state": {}}
    state = jax.tree.map(jnp.asarray, state)
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(1, state, {})
    found = load({"teacher": spec}, placed({"teacher": spec}, Mesh(data=1).build(None), jnp.bfloat16))["teacher"]
    same = lambda mine, own: np.testing.assert_array_equal(mine, own.astype(jnp.bfloat16))  # noqa: E731
    jax.tree.map(same, found["params"], state["params"])

    run = toys.run(model=model, data=Reversed(length=6, vocab=16), objective=Concatenated())
    taught = dataclasses.replace(run, objective=Distill(spec, objective=Concatenated()))
    first = identify(taught).start
    assert first is not None
    assert identify(run).start is None
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(2, jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), state), {})
    assert identify(taught).start not in (None, first)
    part = Pretrained(model, FromRun(str(tmp_path), take=("^embedding",)))
    with pytest.raises(UserError, match=r"objective\.teacher\.start: holds no .*; a frozen model is taken whole"):
        load({"teacher": part}, placed({"teacher": part}, Mesh(data=1).build(None), jnp.float32))


def test_the_teacher_is_no_part_of_the_state():
    spec = teacher()
    run = toys.run(
        model=decoder(), data=Reversed(length=6, vocab=16), objective=Distill(spec, objective=Concatenated())
    )
    program = prepare(run, run.data.describe())
    _, shapes = graphs({"teacher": spec})
    alone = prepare(dataclasses.replace(run, objective=Concatenated()), run.data.describe())
    assert jax.tree.map(jnp.shape, program.abstract) == jax.tree.map(jnp.shape, alone.abstract)
    assert jax.tree.map(lambda x: x.shape, program.train_step.abstract) == jax.tree.map(lambda x: x.shape, shapes)


@pytest.mark.parametrize(
    ("objective", "error"),
    [
        (
            Distill(teacher(15), objective=Concatenated()),
            "Decoder.vocab=15: must be at least 16, the tokens of the data",
        ),
        (
            Distill(teacher(), objective=Concatenated(), reads=SequenceToSequence()),
            "must be Seq2Seq (arch.models.base) for SequenceToSequence",
        ),
    ],
    ids=["vocabulary", "kind"],
)
def test_a_teacher_that_cannot_read_the_data_is_refused(objective, error):
    run = toys.run(model=decoder(), data=Reversed(length=6, vocab=16), objective=objective)
    (found, *_) = run.conflicts()
    assert str(found).endswith(error)
    fine = Distill(teacher(24), objective=Concatenated())
    assert not list(dataclasses.replace(run, objective=fine).conflicts())


def test_of_an_objective_over_rows_nothing_is_learnt():
    with pytest.raises(ValueError, match="must be an objective over tokens"):
        Distill(teacher(), objective=Distill(teacher()))


def test_an_objective_that_draws_its_inputs_is_refused():
    """Its drawing would be left out in silence."""
    with pytest.raises(SpecError, match="it draws its inputs from the model itself"):
        Distill(teacher(), objective=PolicyGradient()).build(DATA)

"""Beams of an encoder-decoder against all continuations there are, with the paper's score computed by hand."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.decode.beam import Beam, Coverage
from arch.decode.generate import generate
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.init.initializers import Normal
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.spec import UserError
from arch.taps import Tap

V, NEW, BEGIN, STOP = 5, 3, 0, 4
SOURCE = Inputs(
    jnp.array([[1, 2, 3, 1, 2, 0], [3, 3, 1, 0, 0, 0]], jnp.int32), None, jnp.array([[1] * 5 + [0], [1] * 3 + [0] * 3])
)
BLOCK = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=16))


@pytest.fixture(scope="module")
def model():
    spec = EncoderDecoder(
        encoder=Trunk(V, 16, 1, PreNorm(mixer=Attention(heads=2, mask=Bidirectional())), init=Normal(0.5)),
        decoder=Trunk(V, 16, 2, reading(BLOCK, CrossAttention(heads=2)), init=Normal(0.5)),
    )
    return spec.build(rngs=nnx.Rngs(3))


@pytest.fixture(scope="module")
def hypotheses(model):
    """For each source: continuation -> (log P, what is attended to of the source in all, both float64)."""
    rows = np.array([[BEGIN, *rest] for rest in itertools.product(range(V), repeat=NEW)], np.int32)
    call = jax.jit(
        lambda source: model(Inputs(jnp.asarray(rows), source=source), tap=Tap(save="decoder.cross.attn.pattern"))
    )
    found = []
    for row in range(2):
        source = jax.tree.map(lambda x: jnp.repeat(x[row : row + 1], len(rows), axis=0), SOURCE)  # noqa: B023
        out = call(source)
        log_p = np.asarray(jax.nn.log_softmax(out.logits.astype(jnp.float32)), np.float64)
        pattern = np.asarray(out.taps["decoder.cross.attn.pattern"], np.float64).mean(axis=(0, 2))
        assert pattern.shape == (len(rows), NEW + 1, 6)
        told = {}
        for index, tokens in enumerate(rows[:, 1:].tolist()):
            length = tokens.index(STOP) + 1 if STOP in tokens else NEW
            total = sum(log_p[index, place, tokens[place]] for place in range(length))
            told[tuple(tokens[:length])] = (total, pattern[index, :length].sum(axis=0))
        found.append(told)
    return found


def score(hypothesis, length, there, alpha, beta):
    """Equation 14 and the coverage penalty, in plain Python."""
    total, attended = hypothesis
    normalised = total * 6**alpha / (5 + length) ** alpha
    return normalised + beta * sum(math.log(min(attended[place], 1.0)) for place in range(there))


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.2, 0.2), (1.0, 0.0), (3.0, 2.0)])
def test_a_full_beam_is_exhaustive_search(model, hypotheses, alpha, beta):
    strategy = Beam(V**2, alpha, Coverage(beta) if beta else None)
    found = generate(model, [[BEGIN]] * 2, NEW, strategy=strategy, stop=STOP, source=SOURCE)
    for row, there in enumerate((5, 3)):
        ranks = {tokens: score(one, len(tokens), there, alpha, beta) for tokens, one in hypotheses[row].items()}
        best, second = sorted(ranks, key=ranks.__getitem__)[:-3:-1]
        assert ranks[best] - ranks[second] > 1e-3, "the toy must tell them apart"
        written = len(best)
        assert tuple(found.tokens[row][:written]) == best
        np.testing.assert_allclose(found.log_probabilities[row].sum(), hypotheses[row][best][0], atol=1e-4)


def test_the_score_changes_what_is_found(hypotheses):
    """The cases above differ in their answers, so that a part of the score that is lost is seen."""
    best = {
        (alpha, beta, row): max(hypotheses[row], key=lambda y: score(hypotheses[row][y], len(y), there, alpha, beta))
        for alpha, beta in ((0.0, 0.0), (0.2, 0.2), (3.0, 2.0))
        for row, there in enumerate((5, 3))
    }
    assert len({(best[alpha, beta, 0], best[alpha, beta, 1]) for alpha, beta, _ in best}) > 1


def test_a_beam_of_one_is_greedy_whatever_is_read_beside_it(model):
    greedy = generate(model, [[BEGIN]] * 2, 6, stop=STOP, source=SOURCE)
    one = generate(model, [[BEGIN]] * 2, 6, stop=STOP, source=SOURCE, strategy=Beam(1))
    np.testing.assert_array_equal(greedy.tokens, one.tokens)
    np.testing.assert_allclose(greedy.log_probabilities, one.log_probabilities, atol=1e-5)


def test_sources_are_searched_side_by_side_as_alone(model):
    strategy = Beam(3, 0.6, Coverage(0.4))
    both = generate(model, [[BEGIN]] * 2, 5, strategy=strategy, stop=STOP, source=SOURCE)
    for row in range(2):
        own = jax.tree.map(lambda x: x[row : row + 1], SOURCE)  # noqa: B023
        alone = generate(model, [[BEGIN]], 5, strategy=strategy, stop=STOP, source=own)
        np.testing.assert_array_equal(both.tokens[row], alone.tokens[0])


def test_pruning_by_much_changes_nothing_and_by_little_is_greedy(model):
    args = {"stop": STOP, "source": SOURCE}
    plain = generate(model, [[BEGIN]] * 2, 5, strategy=Beam(4), **args)
    loose = generate(model, [[BEGIN]] * 2, 5, strategy=Beam(4, prune=1e3), **args)
    np.testing.assert_array_equal(plain.tokens, loose.tokens)
    tight = generate(model, [[BEGIN]] * 2, 5, strategy=Beam(4, prune=1e-6), **args)
    greedy = generate(model, [[BEGIN]] * 2, 5, **args)
    np.testing.assert_array_equal(tight.tokens, greedy.tokens)


def test_coverage_by_hand():
    rule = Coverage(0.5)
    there = jnp.array([[1.0, 1.0, 0.0]])
    full = rule.penalty(jnp.array([[1.0, 7.0, 0.0]]), there)
    np.testing.assert_allclose(full, [0.0], atol=1e-6)  # attended enough, and over-attention is worth nothing
    half = rule.penalty(jnp.array([[0.5, 1.0, 0.0]]), there)
    np.testing.assert_allclose(half, [0.5 * math.log(0.5)], rtol=1e-6)
    pattern = {"a": jnp.arange(24.0).reshape(1, 2, 3, 4), "b": jnp.ones((5, 1, 2, 3, 4))}
    added = rule.added(pattern)
    np.testing.assert_allclose(added, [(np.arange(24.0).reshape(2, 3, 4)[:, -1].mean(0) + 1) / 2])


def test_coverage_without_a_source_is_refused():
    model = Decoder(vocab=V, width=16, depth=1, block=BLOCK).build(rngs=nnx.Rngs(0))
    with pytest.raises((UserError, ValueError), match=r"source|site"):
        generate(model, [[BEGIN]], 2, strategy=Beam(2, coverage=Coverage()))

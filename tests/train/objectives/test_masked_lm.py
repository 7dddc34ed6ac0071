"""Masked language modelling: the sampler's statistics, what is never chosen, and the loss against numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import log_softmax

from arch.models.base import Output
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from tests.train import toys
from train.data.description import Description
from train.data.tokenizers import ByteTokenizer, Tokens
from train.objectives.masked_lm import MaskedLM, MaskedNextToken, hide
from train.objectives.next_token import NextToken

BYTES = Tokens.of(ByteTokenizer()).into(Description({}))
ROWS = toys.ToyRows(4, 0).arrays
KEYS = jax.random.split(jax.random.key(1), 4)


@pytest.mark.parametrize("rate", [0.15, 0.3])
def test_a_million_tokens_within_three_sigma(rate):
    """Of all tokens 0.8 r are masked, 0.1 r random, 0.1 r stay; a random one is now and then the token itself."""
    count, vocab = 1_000_000, 1000
    tokens = jnp.arange(count, dtype=jnp.int32) % vocab
    seen, chosen = map(
        np.asarray, hide(tokens, jnp.ones(count, bool), jax.random.key(3), rate=rate, mask=vocab, vocab=vocab)
    )
    masked, changed = seen == vocab, (seen != np.asarray(tokens)) & (seen != vocab)
    assert not (masked | changed)[~chosen].any()
    others = (vocab - 1) / vocab
    for found, share in ((chosen, rate), (masked, 0.8 * rate), (changed, 0.1 * rate * others),
                         (chosen & ~masked & ~changed, 0.1 * rate * (2 - others))):  # fmt: skip
        assert abs(found.mean() - share) < 3 * np.sqrt(share * (1 - share) / count)
    drawn = np.bincount(seen[changed], minlength=vocab + 1)
    assert drawn[:vocab].min() > 0
    assert drawn[:vocab].max() < 3 * changed.sum() / vocab


@pytest.mark.parametrize("objective", [MaskedLM(rate=1.0), MaskedNextToken(rate=1.0)])
def test_padding_and_special_tokens_are_never_chosen(objective):
    tokens = np.array([[0, 65, 66, 254, 67, 255, 0, 68, 69, 0, 0, 0]], np.int32)
    segments = np.array([[1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0]], np.int32)
    batch = {"tokens": jnp.asarray(tokens), "segments": jnp.asarray(segments)}
    hidden = objective.hide(batch, KEYS[:1], BYTES)
    may = (segments > 0) & ~np.isin(tokens, [0, 254, 255])
    if isinstance(objective, MaskedNextToken):
        may[0, 7] = False  # the first of its document
    np.testing.assert_array_equal(hidden.chosen, may)
    np.testing.assert_array_equal(np.asarray(hidden.tokens)[~may], tokens[~may])


def test_what_is_special():
    assert {0, 254, 255} <= set(BYTES.special)
    assert 65 not in BYTES.special
    assert Description({}, vocab=9, mask=3, separator=8).special == (3, 8)
    assert Description({}, vocab=2, token_bytes=np.zeros(2)).special == ()


def test_the_loss_is_that_of_the_chosen_tokens_at_their_own_places():
    objective, data = MaskedLM(rate=0.4), toys.Toy().describe()
    inputs, targets = objective.build(data).prepare({name: jnp.asarray(a) for name, a in ROWS.items()}, KEYS)
    assert inputs.tokens.shape == (4, toys.LENGTH)
    logits = np.random.default_rng(0).normal(size=(4, toys.LENGTH, 33))
    loss = objective.build(data).loss(Output(jnp.asarray(logits, jnp.float32)), targets)
    chosen = np.asarray(targets.weights) > 0
    tokens = ROWS["tokens"][:, :-1]
    nats = -np.take_along_axis(log_softmax(logits, -1), tokens[..., None], -1)[..., 0]
    found = objective.metrics(loss)
    assert float(found["loss"]) == pytest.approx(nats[chosen].mean(), rel=1e-6)
    assert float(found["bits_per_byte"]) == pytest.approx(nats[chosen].mean() / np.log(2), rel=1e-6)
    assert float(found["accuracy"]) == pytest.approx((logits.argmax(-1) == tokens)[chosen].mean())
    assert float(loss.weight) == chosen.sum() > 0


def test_masked_next_token_is_next_token_on_the_masked_row_at_the_chosen_targets():
    """By a causal model, on a batch by hand: the same inputs, and weights at what was chosen."""
    tokens = np.array([[5, 9, 4, 7, 3, 8, 2, 6, 1]], np.int32)
    segments = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0]], np.int32)
    batch = {"tokens": jnp.asarray(tokens), "segments": jnp.asarray(segments)}
    data = toys.Toy().describe()
    model = toys.model(vocab=33, depth=1).build(rngs=nnx.Rngs(0))
    call = jax.jit(lambda inputs: model(inputs))
    objective = MaskedNextToken(rate=0.5)
    task, hidden = objective.build(data), objective.hide(batch, KEYS[:1], data)
    assert 1 < np.asarray(hidden.chosen).sum() < 7
    inputs, targets = task.prepare(batch, KEYS[:1])
    mine = task.loss(call(inputs), targets)

    plain = NextToken().build(dataclasses.replace(data, vocab=33, token_bytes=None))
    read, _ = plain.prepare({"tokens": hidden.tokens, "segments": batch["segments"]}, KEYS[:1])
    _, told = plain.prepare({**batch, "weights": hidden.chosen.astype(jnp.float32)}, KEYS[:1])
    theirs = plain.loss(call(read), told)
    assert float(mine.weight) == float(theirs.weight) == np.asarray(hidden.chosen).sum()
    assert float(mine.total) == pytest.approx(float(theirs.total), rel=1e-6)


def test_a_model_without_room_for_the_mask_is_refused():
    run = toys.run(model=Encoder(vocab=32, width=16, depth=1), objective=MaskedLM())
    (error, *_) = run.conflicts()
    assert str(error) == "Encoder.vocab=32: must be at least 33, the tokens of the data and the 1 of MaskedLM"
    assert not list(dataclasses.replace(run, model=Encoder(vocab=33, width=16, depth=1)).conflicts())
    (error, *_) = toys.run(objective=MaskedLM(), model=toys.model(vocab=33)).conflicts()
    assert "must be Bidirectional (arch.models.base) for MaskedLM" in str(error)
    assert not list(toys.run(objective=MaskedNextToken(), model=Decoder(vocab=33, width=16, depth=1)).conflicts())


def test_data_with_a_mask_need_no_id_of_their_own():
    assert MaskedLM().extra_tokens(BYTES) == 0
    batch = {"tokens": jnp.full((4, 40), 65, jnp.int32), "segments": jnp.ones((4, 40), jnp.int32)}
    hidden = MaskedLM(rate=0.5).hide(batch, KEYS, BYTES)
    assert (np.asarray(hidden.tokens) == 255).sum() > 40

"""The loop's reordering and taking back: beams against all continuations, wrong guesses that change nothing."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.decode.beam import Beam
from arch.decode.generate import generate
from arch.decode.sampling import score
from arch.decode.strategy import Choice, Strategy
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.models.decoder import Decoder
from tests.arch import tiny

PROMPTS = [[3, 1, 4, 1, 5], [2, 6]]
NEW = 4


def spec_of(mixer):
    return Decoder(vocab=7, width=16, depth=2, block=PreNorm(mixer=mixer))


FULL = spec_of(Attention(heads=2))
MIXERS = {
    "full": FULL,
    "window": spec_of(Attention(heads=2, mask=SlidingWindow(3))),
    "recurrent": spec_of(LinearAttention(heads=2, mask=Causal())),
}


def model_of(spec):
    return nnx.merge(*tiny.draw(spec))


def all_scores(spec, prompt, length):
    """Log-probability of every continuation of `length` tokens."""
    forward, params = tiny.forward(spec)
    rows = np.array([[*prompt, *rest] for rest in itertools.product(range(spec.vocab), repeat=length)], np.int32)
    log_p = jax.nn.log_softmax(tiny.jit(lambda params: forward(params, rows).logits)(params), axis=-1)
    picked = np.take_along_axis(np.asarray(log_p)[:, :-1], rows[:, 1:, None], axis=2)[..., 0]
    return {
        tuple(row[len(prompt) :]): total for row, total in zip(rows, picked[:, len(prompt) - 1 :].sum(1), strict=True)
    }


def test_a_beam_as_wide_as_all_continuations_finds_the_best():
    decoded = generate(model_of(FULL), PROMPTS, 3, strategy=Beam(width=49))
    for row, prompt in enumerate(PROMPTS):
        scores = all_scores(FULL, prompt, 3)
        best = max(scores, key=scores.__getitem__)
        assert tuple(decoded.tokens[row]) == best
        np.testing.assert_allclose(decoded.log_probabilities[row].sum(), scores[best], atol=1e-4)


def test_a_beam_of_one_is_greedy():
    model = model_of(FULL)
    greedy, beam = generate(model, PROMPTS, NEW, stop=2), generate(model, PROMPTS, NEW, stop=2, strategy=Beam(width=1))
    np.testing.assert_array_equal(greedy.tokens, beam.tokens)
    np.testing.assert_allclose(greedy.log_probabilities, beam.log_probabilities, atol=1e-5)


def test_beams_that_end_keep_their_score_and_longer_ones_can_win():
    """With stop tokens, against the best of all ended or full continuations, as the penalty ranks them."""
    stop, prompt = 5, PROMPTS[0]
    by_length = {length: all_scores(FULL, prompt, length) for length in (1, 2, 3)}
    candidates = {}
    for length, scores in by_length.items():
        for tokens, total in scores.items():
            ends = tokens.index(stop) + 1 if stop in tokens else 3
            if ends == length:
                candidates[tokens] = total
    for alpha in (0.0, 3.0):
        rank = lambda tokens, alpha=alpha: candidates[tokens] / ((5 + len(tokens)) / 6) ** alpha  # noqa: E731
        best = max(candidates, key=rank)
        decoded = generate(model_of(FULL), [prompt], 3, stop=stop, strategy=Beam(width=49, length_penalty=alpha))
        assert tuple(decoded.tokens[0][: len(best)]) == best


@dataclasses.dataclass(frozen=True)
class Guess(Strategy):
    """Greedy decoding that is fed `guesses` tokens too many each turn, and takes back those that were wrong."""

    guesses: int = 2

    @property
    def ahead(self):
        return 1 + self.guesses

    def next(self, state, seen, key):
        rows, fed, vocab = seen.logits.shape
        best = jnp.argmax(seen.logits, axis=-1).astype(jnp.int32)
        scores = score(seen.logits.reshape(-1, vocab), best.reshape(-1)).reshape(rows, fed)
        right = jnp.cumprod((best[:, :-1] == seen.fed[:, 1:]).astype(jnp.int32), axis=1)
        accepted = jnp.sum(right, axis=1).astype(jnp.int32)
        last = jnp.take_along_axis(best, accepted[:, None], axis=1)
        guessed = (last + jnp.arange(1, self.ahead, dtype=jnp.int32)[None]) % vocab
        feed = jnp.concatenate([last, guessed], axis=1)
        return state, Choice(best, scores, counts=accepted + 1, feed=feed, kept=accepted + 1)


@pytest.mark.parametrize("name", MIXERS)
def test_wrong_guesses_change_nothing(name):
    """What greedy decoding says, whatever kind of cache is taken back."""
    model = model_of(MIXERS[name])
    greedy = generate(model, PROMPTS, 8, stop=6)
    for guesses in (1, 3):
        found = generate(model, PROMPTS, 8, stop=6, strategy=Guess(guesses))
        np.testing.assert_array_equal(found.tokens, greedy.tokens)
        np.testing.assert_allclose(found.log_probabilities, greedy.log_probabilities, atol=1e-4)

"""Generation: a batch of unequal prompts against each prompt alone by the full forward, without a cache."""

import jax
import numpy as np
import pytest
from flax import nnx

from arch.decode.generate import generate
from arch.decode.sampling import Greedy, Sample
from arch.layers.attention.masks import SlidingWindow
from tests.arch import tiny

PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5]]
NEW, LONGEST = 6, 16


def model_of(spec):
    return nnx.merge(*tiny.draw(spec))


def full_forward(spec):
    """`fn(tokens) -> logits of the next token`, padded on the right to one length: causality hides the padding."""
    forward, params = tiny.forward(spec)
    run = tiny.jit(lambda params, tokens: forward(params, tokens).logits[0])

    def fn(tokens):
        padded = np.zeros((1, LONGEST), np.int32)
        padded[0, : len(tokens)] = tokens
        return np.asarray(run(params, padded))[len(tokens) - 1]

    return fn


def log_softmax(x):
    x = x.astype(np.float64) - x.max()
    return x - np.log(np.exp(x).sum())


def one_at_a_time(spec, prompt, stop=None):
    """Greedy tokens and their log-probabilities."""
    logits_of, tokens, scores = full_forward(spec), list(prompt), []
    for _ in range(NEW):
        logits = logits_of(tokens)
        tokens.append(int(logits.argmax()))
        scores.append(log_softmax(logits)[tokens[-1]])
    return tokens[len(prompt) :], scores


SPECS = [tiny.decoder("learned"), tiny.decoder(mask=SlidingWindow(3)), tiny.decoder("t5_model", block="sandwich")]


@pytest.mark.parametrize("spec", SPECS, ids=["learned", "window", "t5"])
def test_greedy_batch_is_each_prompt_alone(spec):
    decoded = generate(model_of(spec), PROMPTS, NEW)
    for row, prompt in enumerate(PROMPTS):
        tokens, scores = one_at_a_time(spec, prompt)
        assert decoded.tokens[row].tolist() == tokens
        np.testing.assert_allclose(decoded.log_probabilities[row], scores, atol=1e-4)
    assert decoded.lengths.tolist() == [NEW] * len(PROMPTS)
    assert len({tuple(row) for row in decoded.tokens.tolist()}) == len(PROMPTS)


def test_stop_token_ends_its_row_alone():
    spec = SPECS[0]
    free = generate(model_of(spec), PROMPTS, NEW)
    stop = int(free.tokens[0, 2])
    decoded = generate(model_of(spec), PROMPTS, NEW, stop=stop)
    for row in range(len(PROMPTS)):
        tokens = free.tokens[row].tolist()
        length = tokens.index(stop) if stop in tokens else NEW
        assert decoded.lengths[row] == length
        assert decoded.tokens[row].tolist() == tokens[:length] + [stop] * (NEW - length)
        ended = min(length + 1, NEW)  # The stop token itself was chosen by the model, and has its probability.
        np.testing.assert_allclose(
            decoded.log_probabilities[row, :ended], free.log_probabilities[row, :ended], atol=1e-5
        )
        assert (decoded.log_probabilities[row, ended:] == 0).all()
    assert decoded.lengths[0] <= 2
    assert decoded.lengths.max() > 2


def test_sampled_tokens_have_the_models_own_probabilities():
    """Whatever the temperature and the cuts; the same key repeats, another does not."""
    spec, sampler = SPECS[0], Sample(temperature=3.0, top_k=10)
    draw = lambda seed: generate(model_of(spec), PROMPTS, NEW, strategy=sampler, key=jax.random.key(seed))  # noqa: E731
    first, again, other = draw(0), draw(0), draw(1)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert (first.tokens != other.tokens).any()
    logits_of = full_forward(spec)
    for prompt, tokens, scores in zip(PROMPTS, first.tokens, first.log_probabilities, strict=True):
        text = list(prompt)
        for token, score in zip(tokens, scores, strict=True):
            logits = logits_of(text)
            assert token in np.argsort(-logits)[:10]
            np.testing.assert_allclose(score, log_softmax(logits)[token], atol=1e-4)
            text.append(token)


def test_a_prompt_longer_than_a_bucket():
    """33 tokens are padded to 64."""
    spec = tiny.decoder()
    prompt = tiny.tokens(1, 33)[0].tolist()
    decoded = generate(model_of(spec), [prompt], 1)
    forward, params = tiny.forward(spec)
    logits = tiny.jit(lambda p: forward(p, np.array([prompt], np.int32)).logits[0, -1])(params)
    assert decoded.tokens[0, 0] == int(np.argmax(logits))


@pytest.mark.parametrize(
    ("prompts", "new", "line"),
    [
        ([], 3, "at least one token in each prompt"),
        ([[1], []], 3, "at least one token in each prompt"),
        ([[1]], 0, "new >= 1"),
        ([[1], [1] * 12], 6, r"12 \+ 6 tokens do not fit the 16 positions"),
    ],
)
def test_what_cannot_be_continued_is_refused(prompts, new, line):
    with pytest.raises(ValueError, match=line):
        generate(model_of(tiny.decoder("learned")), prompts, new, strategy=Greedy())


def test_all_positions_are_written_to():
    """One token and 16 behind it, of which the last is not read again."""
    spec = tiny.decoder("learned")
    decoded = generate(model_of(spec), [[1]], 16)
    forward, params = tiny.forward(spec)
    tokens = np.concatenate([[1], decoded.tokens[0]])[None]
    logits = tiny.jit(lambda p: forward(p, tokens[:, :-1]).logits[0])(params)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), decoded.tokens[0])

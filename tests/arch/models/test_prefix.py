"""A prefix that all tokens of its document see: who sees whom, packed rows, and going on from a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.decode.generate import generate
from arch.layers.attention.attend import Visibility
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import merge
from arch.spec import UserError
from arch.stacks.patterns import Cycle
from tests.arch import tiny
from tests.arch.parts import drawn

T = 9
LENGTHS = np.array([4, 2])
PREFIX = np.arange(T)[None] < LENGTHS[:, None]
TOKENS = np.random.default_rng(0).integers(1, 19, (2, T)).astype(np.int32)


def spec(mixer=Attention(heads=2), depth=2):
    return Decoder(vocab=19, width=16, depth=depth, block=PreNorm(mixer=mixer, feed_forward=MLP(hidden=16)))


@pytest.fixture(scope="module")
def network():
    graphdef, params, buffers = drawn(spec())
    model = merge(graphdef, params, buffers)
    call = tiny.jit(lambda inputs, cache=None: merge(graphdef, params, buffers)(inputs, cache=cache))
    return call, model


def test_a_query_sees_what_came_before_and_the_prefix():
    visibility = Visibility(
        Causal(), np.arange(T)[None], np.arange(T)[None], None, None, key_prefix=jnp.asarray(PREFIX)
    )
    for row, length in enumerate(LENGTHS):
        expected = [[key <= query or key < length for key in range(T)] for query in range(T)]
        np.testing.assert_array_equal(visibility.dense()[row], expected)
    assert visibility.span is None
    assert Visibility(Causal(), np.arange(T)[None], np.arange(T)[None], None, None).span == (None, 0)


def test_which_tokens_a_logit_depends_on(network):
    """By changing one token after another: prefix tokens change all logits, later ones none before them."""
    call, _ = network
    prefix = jnp.asarray(PREFIX)
    base = np.asarray(call(Inputs(jnp.asarray(TOKENS), prefix=prefix)).logits)
    for place in (0, 1, 3, 5, 8):
        other = TOKENS.copy()
        other[:, place] = (other[:, place] + 7) % 19
        moved = np.abs(np.asarray(call(Inputs(jnp.asarray(other), prefix=prefix)).logits) - base).max(-1) > 1e-6
        for row, length in enumerate(LENGTHS):
            expected = np.arange(T) >= (0 if place < length else place)
            np.testing.assert_array_equal(moved[row], expected)


def test_no_prefix_and_a_prefix_of_one_token_are_the_causal_model(network):
    call, _ = network
    causal = call(Inputs(jnp.asarray(TOKENS))).logits
    for count in (0, 1):
        prefix = jnp.broadcast_to(jnp.arange(T)[None] < count, (2, T))
        np.testing.assert_allclose(call(Inputs(jnp.asarray(TOKENS), prefix=prefix)).logits, causal, atol=2e-6)


def test_packed_documents_have_prefixes_of_their_own(network):
    call, _ = network
    segments = np.array([[1] * 5 + [2] * 4, [1] * 3 + [2] * 4 + [0] * 2], np.int32)
    positions = np.array([[*range(5), *range(4)], [*range(3), *range(4), 0, 0]], np.int32)
    prefix = (positions < 2) & (segments > 0)
    together = call(Inputs(jnp.asarray(TOKENS), positions, jnp.asarray(segments), prefix=jnp.asarray(prefix))).logits
    for row, start, stop in ((0, 0, 5), (0, 5, 9), (1, 0, 3), (1, 3, 7)):
        own = Inputs(
            jnp.asarray(TOKENS[row : row + 1, start:stop]), prefix=jnp.asarray(prefix[row : row + 1, start:stop])
        )
        np.testing.assert_allclose(together[row, start:stop], call(own).logits[0], atol=2e-5)


def test_decoding_from_a_prefix_is_the_full_forward(network):
    """The prompt is the prefix, padded on the left to one length; then one token after another."""
    call, model = network
    whole = call(Inputs(jnp.asarray(TOKENS), prefix=jnp.asarray(PREFIX))).logits
    longest = LENGTHS.max()
    missing = longest - LENGTHS
    place = np.arange(longest)[None] - missing[:, None]
    prompt = np.where(place >= 0, np.take_along_axis(TOKENS, np.maximum(place, 0), 1), 0)
    there = (place >= 0).astype(np.int32)
    first = Inputs(prompt, np.maximum(place, 0).astype(np.int32), there, prefix=there > 0)
    output = call(jax.tree.map(jnp.asarray, first), model.init_cache(2, T + 2))
    np.testing.assert_allclose(output.logits[0], whole[0, :4], atol=2e-5)
    for step in range(4):
        at = LENGTHS + step
        tokens = np.take_along_axis(TOKENS, at[:, None], 1)
        output = call(Inputs(jnp.asarray(tokens), jnp.asarray(at[:, None], jnp.int32)), output.cache)
        np.testing.assert_allclose(output.logits[:, 0], np.asarray(whole)[np.arange(2), at], atol=2e-5)
    causal = call(Inputs(jnp.asarray(TOKENS))).logits
    assert np.abs(np.asarray(causal - whole)[0, 4]).max() > 1e-3
    beams = output.cache.reordered(jnp.array([1, 0]))
    np.testing.assert_array_equal(beams.prefix, np.asarray(output.cache.prefix)[::-1])


@pytest.mark.parametrize("mixer", [LinearAttention(heads=2, mask=Causal()), Attention(heads=2, mask=SlidingWindow(4))])
def test_a_mixer_that_knows_of_no_prefix_is_refused(mixer):
    known = spec().block
    blind = spec(mixer).block
    graphdef, params, buffers = drawn(Decoder(vocab=19, width=16, depth=2, block=Cycle((known, blind))))
    model = merge(graphdef, params, buffers)
    with pytest.raises(UserError, match=f"a prefix was given, and mixer={type(mixer).__name__} does not know"):
        jax.eval_shape(lambda: model(Inputs(jnp.asarray(TOKENS), prefix=jnp.asarray(PREFIX))).logits)
    jax.eval_shape(lambda: model(Inputs(jnp.asarray(TOKENS))).logits)


def test_generating_behind_a_prefix_is_the_full_forward_again_and_again(network):
    """Source and first token of a target as a prompt, of which the source is the prefix; unequal lengths."""
    call, model = network
    prompts, prefixes = [[3, 4, 5, 6, 1], [7, 8, 1]], [4, 2]
    found = generate(model, prompts, 3, prefixes=prefixes)
    for row, prompt in enumerate(prompts):
        text = list(prompt)
        for _ in range(3):
            tokens = np.zeros((2, T), np.int32)
            tokens[:, : len(text)] = text
            prefix = jnp.broadcast_to(jnp.arange(T)[None] < prefixes[row], (2, T))
            text.append(int(np.argmax(call(Inputs(jnp.asarray(tokens), prefix=prefix)).logits[0, len(text) - 1])))
        assert found.tokens[row].tolist() == text[len(prompt) :]
    assert (generate(model, prompts, 3).tokens != found.tokens).any()

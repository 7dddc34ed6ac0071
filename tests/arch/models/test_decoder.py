"""The decoder: cached decoding, packed documents, padding, low precision, and what it refuses."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.context import Gates
from arch.layers.attention.masks import Bidirectional, Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.positions import ALiBi, T5Relative
from arch.models.decoder import Decoder
from arch.spec import SpecError
from tests.arch import tiny

B, T, P = 3, 8, 5
"""Rows, tokens, and tokens of the first call when decoding after a prompt."""
PADDING = np.array([0, 2, 4], np.int32)
"""Padding on the left of each row."""


def one_by_one(model, tokens, positions, cache):
    """Logits [B, T, V] of `tokens` handed to a cached model one at a time."""

    def step(cache, inputs):
        token_B, position_B = inputs
        out = model(token_B[:, None], positions=None if position_B is None else position_B[:, None], cache=cache)
        return out.cache, out.logits[:, 0]

    cache, logits_TBV = jax.lax.scan(step, cache, (tokens.T, None if positions is None else positions.T))
    return jnp.moveaxis(logits_TBV, 0, 1), cache


CACHED = {
    **{
        f"{position}-{type(mask).__name__}": tiny.decoder(position, mask=mask)
        for position in tiny.POSITIONS
        for mask in (Causal(), SlidingWindow(3))
    },
    "qk_norm-softcap-scale": tiny.decoder(kv_heads=1, qk_norm=RMSNorm(), softcap=5.0, scale=0.3, head_dim=16),
    "parallel-unrolled": tiny.decoder(block="parallel", loop="unroll", kv_heads=None, qk_norm=LayerNorm()),
}


@pytest.mark.parametrize("name", CACHED)
def test_cached_decoding_is_the_full_forward(name):
    """One token at a time from an empty cache, and after a prompt padded on the left to unequal lengths."""
    spec = CACHED[name]
    forward, params = tiny.forward(spec)
    tokens = tiny.tokens(B, T)
    padded = np.stack([np.r_[np.full(pad, 7), row[: T - pad]] for pad, row in zip(PADDING, tokens, strict=True)])
    place = np.arange(T, dtype=np.int32)[None]
    positions = np.maximum(place - PADDING[:, None], 0)
    segments = (place >= PADDING[:, None]).astype(np.int32)

    def run(params, tokens, padded):
        model = partial(forward, params)
        stepwise, last = one_by_one(model, tokens, None, tiny.empty_cache(spec, B, T))
        # The cache is longer than needed: places never written must not be seen.
        cache = tiny.empty_cache(spec, B, T + 3)
        prompt = model(padded[:, :P], positions=positions[:, :P], segments=segments[:, :P], cache=cache)
        rest, _ = one_by_one(model, padded[:, P:], jnp.asarray(positions[:, P:]), prompt.cache)
        return model(tokens).logits, stepwise, jnp.concatenate([prompt.logits, rest], axis=1), last.index

    full, stepwise, after_prompt, index = tiny.jit(run)(params, tokens, padded.astype(np.int32))
    np.testing.assert_array_equal(index, np.full(B, T))
    tiny.close(stepwise, full)
    for row, pad in enumerate(PADDING):
        tiny.close(after_prompt[row, pad:], full[row, : T - pad])


# Two rows of documents of four tokens: [A A A A B B B B . .] and [. . . C C C C . . .].
LENGTH = 4
SEGMENTS = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0], [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]], np.int32)
PLACES = [(0, slice(0, 4)), (0, slice(4, 8)), (1, slice(3, 7))]


def pack(documents, other=0):
    """`documents` at their places, `other` elsewhere."""
    out = np.full((*SEGMENTS.shape, *documents.shape[2:]), other, documents.dtype)
    for (row, place), document in zip(PLACES, documents, strict=True):
        out[row, place] = document
    return out


@pytest.mark.parametrize(
    ("position", "mask", "loop"),
    [
        ("rotary", Causal(), "scan"),
        ("learned", SlidingWindow(3), "unroll"),
        ("alibi_model", Causal(), "scan"),
        ("t5", Bidirectional(), "scan"),
        ("sinusoidal", Bidirectional(), "unroll"),
    ],
    ids=["rotary", "learned", "alibi", "t5", "sinusoidal"],
)
def test_packed_documents_are_separate_documents(position, mask, loop):
    """Logits and gradients of packed, padded rows against each document alone, without segments or padding."""
    forward, params = tiny.forward(tiny.decoder(position, mask=mask, loop=loop))
    documents = tiny.tokens(len(PLACES), LENGTH)
    weights = np.random.default_rng(1).standard_normal((*documents.shape, tiny.V)).astype(np.float32)
    positions = pack(np.broadcast_to(np.arange(LENGTH, dtype=np.int32), documents.shape))

    def loss(params, tokens, weights, positions, segments):
        logits = forward(params, tokens, positions=positions, segments=segments).logits
        return jnp.sum(logits * weights), logits

    run = tiny.jit(jax.grad(loss, has_aux=True))
    gradient, logits = run(params, documents, weights, None, None)
    packed_weights = pack(weights, np.float32(0))
    packed_gradient, packed = run(params, pack(documents, 3), packed_weights, positions, SEGMENTS)
    tiny.close(np.stack([packed[row, place] for row, place in PLACES]), logits)
    tiny.close(packed_gradient, gradient)
    # What the padding holds changes nothing at all.
    other_gradient, other = run(params, pack(documents, 11), packed_weights, positions, SEGMENTS)
    for row, place in PLACES:
        np.testing.assert_array_equal(other[row, place], packed[row, place])
    jax.tree.map(np.testing.assert_array_equal, other_gradient, packed_gradient)


LOW = {
    "biased": dataclasses.replace(
        tiny.decoder(
            "learned", block="sandwich", norm=LayerNorm(), linear=Dense(bias=True), qk_norm=RMSNorm(), softcap=5.0
        ),
        embedding=Embedding(scale=2.0),
        head=Tied(softcap=30.0),
    ),
    "rotary": tiny.decoder(remat="full", dropout=0.5),
    "t5": tiny.decoder("t5", block="post", loop="unroll"),
    "alibi": tiny.decoder("alibi", block="parallel"),
    "sinusoidal": tiny.decoder("sinusoidal"),
}


@pytest.mark.parametrize("name", LOW)
def test_bfloat16_parameters_run_strictly_and_stay_close(name):
    forward, params = tiny.forward(LOW[name])
    low = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), params)
    rounded = jax.tree.map(lambda p: np.asarray(p, np.float32), low)
    gates = Gates(block=np.ones(2, np.float32), mixer=np.array([True, True]))
    key = jax.random.key(0)

    @tiny.jit
    def run(params):
        segments = jnp.ones((2, T), jnp.int32)
        return forward(params, tiny.tokens(2, T), segments=segments, gates=gates, key=key).logits

    logits, exact = run(low), run(rounded)
    assert logits.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(logits - exact))) / np.std(exact)
    assert 1e-4 < error < 0.05  # Rounded, but no more than eight bits of mantissa explain.


def test_bfloat16_gradients():
    """Of every parameter, in its type, and pointing where the float32 ones do."""
    forward, params = tiny.forward(LOW["biased"])
    low = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), params)
    run = tiny.jit(jax.grad(lambda p: jnp.sum(jnp.sin(forward(p, tiny.tokens(2, T)).logits))))
    ours, exact = run(low), run(jax.tree.map(lambda p: np.asarray(p, np.float32), low))
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    left, right = (
        np.concatenate([np.ravel(leaf).astype(np.float32) for leaf in jax.tree.leaves(g)]) for g in (ours, exact)
    )
    assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) > 0.99


def test_bfloat16_cache_of_a_float32_model():
    spec = tiny.decoder()
    forward, params = tiny.forward(spec)
    out = tiny.jit(forward)(params, tiny.tokens(2, T), cache=tiny.empty_cache(spec, 2, T, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(out.cache.layers)} == {jnp.dtype(jnp.bfloat16)}
    full = tiny.jit(forward)(params, tiny.tokens(2, T)).logits
    assert np.sqrt(np.mean(np.square(out.logits - full))) < 0.03 * np.std(full)


def test_positions_default_to_places():
    forward, params = tiny.forward(tiny.decoder("learned"))
    run = tiny.jit(forward)
    explicit = run(params, tiny.tokens(2, T), positions=np.arange(T, dtype=np.int32)[None]).logits
    np.testing.assert_array_equal(run(params, tiny.tokens(2, T)).logits, explicit)
    moved = run(params, tiny.tokens(2, T), positions=np.arange(T, dtype=np.int32)[None] + 1).logits
    assert np.abs(moved - explicit).max() > 0.1


def test_more_tokens_than_learned_positions_are_refused():
    forward, params = tiny.forward(tiny.decoder("learned"))
    with pytest.raises(ValueError, match="17 tokens do not fit the 16 positions"):
        forward(params, tiny.tokens(1, 17))
    beyond = np.array([[0, 1, 16]], np.int32)  # Explicit positions cannot be checked ahead: the token is lost loudly.
    assert np.isnan(tiny.jit(forward)(params, tiny.tokens(1, 3), positions=beyond).logits[0, 2]).any()


def test_gradient_reaches_every_parameter():
    spec = LOW["biased"]
    forward, params = tiny.forward(spec)
    gradient = tiny.jit(jax.grad(lambda p: jnp.sum(jnp.sin(forward(p, tiny.tokens(2, T)).logits))))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        layers = np.asarray(leaf) if "blocks" in jax.tree_util.keystr(path) else np.asarray(leaf)[None]
        for layer in layers:
            assert np.abs(layer).max() > 1e-6, path


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("vocab", lambda: Decoder(vocab=0)),
        ("width", lambda: Decoder(width=0)),
        ("depth", lambda: Decoder(depth=0)),
        ("position", lambda: Decoder(position=tiny.Rotary())),
        ("heads", lambda: Decoder(width=30, block=PreNorm(mixer=Attention(heads=8))).build(rngs=nnx.Rngs(0))),
        ("heads", lambda: Decoder(position=ALiBi(heads=1), width=32).build(rngs=nnx.Rngs(0))),
        ("heads", lambda: Decoder(position=T5Relative(heads=2), width=32).build(rngs=nnx.Rngs(0))),
    ],
)
def test_impossible_decoders_are_refused_by_field(field, make):
    with pytest.raises(SpecError) as error:
        nnx.eval_shape(make)
    assert [problem.field for problem in error.value.problems] == [field]

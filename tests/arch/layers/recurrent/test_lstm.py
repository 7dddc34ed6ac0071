"""The LSTM against the recurrence in numpy float64 and against torch; documents, padding, caches, both directions."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.caches import Room
from arch.layers.init.initializers import Normal
from arch.layers.recurrent.clip import ConstantClip
from arch.layers.recurrent.lstm import LSTM, BidirectionalLSTM
from arch.layers.recurrent.lstm_cell import LSTMCell
from arch.layers.recurrent.recurrence import Recurrence
from arch.models.base import context
from arch.models.decoder import Decoder
from arch.params import ParamFactory, merge, split
from arch.spec import SpecError
from arch.taps import Tap
from tests.arch import tiny

B, T, D, H = 3, 7, 6, 5
PACKED = np.array([[1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 2, 0, 0]], np.int32)


def rows(seed=0, width=D):
    return np.random.default_rng(seed).standard_normal((B, T, width)).astype(np.float32)


def maker(seed=0):
    return ParamFactory(jax.random.key(seed), Normal(0.5))


def built(clip=None, reverse=False):
    return Recurrence(LSTMCell(clip=clip), {"x": D}, H, maker(), reverse)


def arrays(module):
    return jax.tree.map(np.asarray, split(module)[1])


@partial(tiny.jit, static_argnums=(0,))
def called(graphdef, params, x, segments, cache=None, index=None):
    ctx = context(tap=Tap(save="lstm.*").recorder()).replace(segments=segments, cache=cache, index=index)
    result = merge(graphdef, params, {})(ctx, {"x": x})
    return result, ctx.tap.collect()


def run(module, x, segments=None, **more):
    graphdef, params, _ = split(module)
    return called(graphdef, params, jnp.asarray(x), None if segments is None else jnp.asarray(segments), **more)


def recurrence(cell, x, segments, clip=np.inf, reverse=False):
    """h and c [B, T, H] in float64, a token at a time."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    W, U, bias = (np.asarray(a, np.float64) for a in (cell["x"]["kernel"], cell["h"]["kernel"], cell["bias"]))
    out = np.zeros((2, *x.shape[:2], U.shape[0]))
    for b in range(x.shape[0]):
        h, c, document = np.zeros(U.shape[0]), np.zeros(U.shape[0]), 0
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            if segments[b, t] == 0:
                continue
            if segments[b, t] != document:
                h, c, document = np.zeros_like(h), np.zeros_like(c), segments[b, t]
            i, f, o, g = np.einsum("d,dgh->gh", x[b, t].astype(np.float64), W) + np.einsum("k,kgh->gh", h, U) + bias
            c = np.clip(sigmoid(f) * c + sigmoid(i) * np.tanh(g), -clip, clip)
            h = sigmoid(o) * np.tanh(c)
            out[:, b, t] = h, c
    return out


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_it_is_the_recurrence_of_each_document(reverse, clip):
    module = built(None if clip is None else ConstantClip(clip), reverse)
    (h, _), taps = run(module, rows(), PACKED)
    h_64, c_64 = recurrence(arrays(module)["cell"], rows(), PACKED, clip or np.inf, reverse)
    real = PACKED > 0
    np.testing.assert_allclose(np.asarray(taps["lstm.h"])[real], h_64[real], atol=2e-6)
    np.testing.assert_allclose(np.asarray(taps["lstm.c"])[real], c_64[real], atol=2e-6)
    np.testing.assert_allclose(np.asarray(h)[real], np.clip(h_64, -(clip or 9), clip or 9)[real], atol=2e-6)
    if clip is not None:
        assert (np.abs(c_64) == clip).any(), "nothing was clipped"
        assert np.abs(taps["lstm.c"]).max() <= clip
        assert np.abs(h).max() <= clip


def test_it_is_the_lstm_of_torch():
    """torch has the gates in the order i, f, g, o and two biases."""
    module = built()
    cell = arrays(module)["cell"]
    ours = torch.nn.LSTM(D, H, batch_first=True)
    order = [0, 1, 3, 2]
    with torch.no_grad():
        flat = lambda kernel: torch.tensor(kernel[:, order].reshape(kernel.shape[0], -1).T.copy())  # noqa: E731
        ours.weight_ih_l0.copy_(flat(cell["x"]["kernel"]))
        ours.weight_hh_l0.copy_(flat(cell["h"]["kernel"]))
        ours.bias_ih_l0.copy_(torch.tensor(cell["bias"][order].reshape(-1)))
        ours.bias_hh_l0.zero_()
        expected = ours(torch.tensor(rows()))[0].numpy()
    np.testing.assert_allclose(run(module, rows())[0].x, expected, atol=2e-6)


def test_a_cache_goes_on_and_padding_leaves_it():
    """In pieces, with padding between them; and back to where a row was two tokens before."""
    module, x = built(), rows()
    whole = np.asarray(run(module, x)[0].x)
    cache, at, out = module.init_cache(Room(B, T + 2, snapshots=3)), 0, []
    spread = np.insert(x, [4, 4], 9.0, axis=1)
    segments = np.insert(np.ones((B, T), np.int32), [4, 4], 0, axis=1)
    for size in (3, 3, 1, 1, 1):
        piece = slice(at, at + size)
        index = jnp.full(B, at, jnp.int32)
        result, _ = run(module, spread[:, piece], segments[:, piece], cache=cache, index=index)
        cache, at = result.cache, at + size
        out.append(np.asarray(result.x))
    np.testing.assert_allclose(np.concatenate(out, axis=1)[segments > 0], whole.reshape(-1, H), atol=1e-6)
    back = cache.rewound(jnp.full(B, T, jnp.int32))
    again, _ = run(module, x[:, -2:], cache=back, index=jnp.full(B, T, jnp.int32))
    np.testing.assert_allclose(again.x, whole[:, -2:], atol=1e-6)


def test_both_directions_see_their_document_alone():
    """The gradient of a token's output reaches all tokens of its document, and none of another or of padding."""
    layer = BidirectionalLSTM(hidden=H).build(D, maker())
    graphdef, params, _ = split(layer)

    @tiny.jit
    def visibility(x):
        def first(x):
            return merge(graphdef, params, {})(x, context().replace(segments=jnp.asarray(PACKED))).x[2, 1].sum()

        return jnp.abs(jax.grad(first)(x)).sum(-1)

    seen = np.asarray(visibility(jnp.asarray(rows()))) > 0
    expected = np.zeros((B, T), bool)
    expected[2, :4] = True
    np.testing.assert_array_equal(seen, expected)


def test_what_is_behind_the_end_of_a_row_changes_nothing():
    """A row of 4 tokens in either direction, with other padding behind and before it."""
    layer = BidirectionalLSTM(hidden=H).build(D, maker())
    apply = tiny.jit(lambda x, segments: layer(x, context().replace(segments=segments)).x)
    x, segments = rows(), np.array([[1] * 4 + [0] * 3] * B, np.int32)
    alone = apply(x[:, :4], segments[:, :4])
    np.testing.assert_allclose(apply(x, segments)[:, :4], alone, atol=1e-6)
    back = np.roll(x, 3, axis=1), np.roll(segments, 3, axis=1)
    np.testing.assert_allclose(apply(*back)[:, 3:], alone, atol=1e-6)


def test_a_decoder_of_lstms_is_causal_and_one_of_both_directions_is_refused():
    spec = Decoder(vocab=tiny.V, width=tiny.D, depth=2, block=PreNorm(mixer=LSTM(hidden=12)))
    forward, params = tiny.forward(spec)
    tokens = tiny.tokens(2, 8)
    logits = tiny.jit(lambda params, tokens: forward(params, tokens).logits)
    other = tokens.copy()
    other[:, 5] = (other[:, 5] + 1) % tiny.V
    one, two = np.asarray(logits(params, tokens)), np.asarray(logits(params, other))
    np.testing.assert_array_equal(one[:, :5], two[:, :5])
    assert (one[:, 5:] != two[:, 5:]).any(axis=(0, 2)).all()
    whole, _ = tiny.jit(tiny.in_pieces(spec, tokens, (3, 4, 8)))(params)
    tiny.close(whole, one)
    with pytest.raises(SpecError, match="must not see later tokens"):
        dataclasses.replace(spec, block=PreNorm(mixer=BidirectionalLSTM()))


def test_the_state_stays_float32_in_bfloat16():
    module = built()
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), split(module)[1])
    (h, _), taps = called(split(module)[0], half, jnp.asarray(rows(), jnp.bfloat16), None)
    assert (h.dtype, taps["lstm.c"].dtype) == (jnp.bfloat16, jnp.float32)
    assert nnx.state(module, nnx.Param)["cell"]["bias"][...].dtype == jnp.float32

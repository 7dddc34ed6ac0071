"""Encoders see the whole row, decoders what came before: by gradient, and by what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import TypeCheckError

from arch.blocks import PreNorm
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, Mask, SlidingWindow
from arch.layers.attention.sinkhorn import Sinkhorn
from arch.layers.attention.softmax import Attention
from arch.layers.attention.sparse_masks import BigBird, Both, Longformer, Strided
from arch.models import base
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.spec import SpecError, UserError
from arch.stacks import Cycle, Split
from arch.taps import Tap
from tests.arch import tiny

T, D = 5, 16
SMALL = {"vocab": tiny.V, "width": D, "depth": 1}


def block(mask=None, mixer=None):
    return PreNorm(mixer=mixer or Attention(heads=2, mask=mask))


def influence(spec):
    """bool [t, s]: whether logits[t] depend on embedding[s]."""
    forward, params = tiny.forward(spec)

    def logits(delta):
        tap = Tap(edit={"embed": lambda x, layer: x + delta[None]})
        return jnp.sum(jnp.sin(forward(params, tiny.tokens(1, T), tap=tap).logits[0]), axis=-1)

    return (np.asarray(tiny.jit(jax.jacrev(logits))(jnp.zeros((T, D)))) != 0).any(axis=-1)


def test_an_encoder_sees_both_sides_and_a_decoder_one():
    assert influence(Encoder(**SMALL, block=block(Bidirectional()))).all()
    np.testing.assert_array_equal(influence(Decoder(**SMALL, block=block(Causal()))), np.tril(np.ones((T, T), bool)))


def test_they_share_the_trunk():
    """An encoder with a causal mask is the decoder of the same parameters; the default one is bidirectional."""
    one, params = tiny.forward(Encoder(**SMALL, block=block(Causal())))
    other, same = tiny.forward(Decoder(**SMALL, block=block(Causal())))
    tiny.close(params, same, 0, 0)
    run = tiny.jit(lambda p: (one(p, tiny.tokens(2, T)).logits, other(p, tiny.tokens(2, T)).logits))
    tiny.close(*run(params), 0, 0)
    assert Encoder().block.causal is False
    assert isinstance(Encoder(), base.Bidirectional)
    assert not isinstance(Encoder(), base.Causal)
    assert isinstance(Decoder(), base.Causal)


REFUSED = {
    "mask": (block(Bidirectional()), "mask=Bidirectional()"),
    "window": (block(LocalWindow(1)), "LocalWindow(radius=1)"),
    "sparse": (block(Longformer()), "Longformer("),
    "cycle": (Cycle((block(Causal()), block(Bidirectional()))), "mask=Bidirectional()"),
    "split": (Split(block(BigBird()), block(Causal())), "BigBird("),
    "kind": (block(mixer=Sinkhorn(heads=2)), "Sinkhorn("),
    "linear": (block(mixer=LinearAttention(heads=2)), "LinearAttention("),
    "extra": (
        dataclasses.replace(block(Causal()), extra=(("more", Attention(mask=Bidirectional())),)),
        "more=Attention(",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_decoder_with_later_tokens_is_refused_in_one_line(name):
    part, told = REFUSED[name]
    with pytest.raises(SpecError, match=r"^Decoder\.block='\w+': must not see later tokens .* is an Encoder$") as error:
        Decoder(**SMALL, block=part)
    assert told in str(error.value)
    Encoder(**SMALL, block=part)


@dataclasses.dataclass(frozen=True)
class Late(Mask):
    """Tokens from the second on see the whole row: a rule that does not ask for the key."""

    def allowed(self, query, key):
        return query >= 2


@dataclasses.dataclass(frozen=True)
class First(Mask):
    """Everyone sees the first token."""

    def allowed(self, query, key):
        return key < 1


CAUSAL = {
    Causal(): True,
    SlidingWindow(3): True,
    LocalWindow(0): True,
    Both(Causal(), Strided(4)): True,
    Both(Longformer(), Causal()): True,
    Both(Bidirectional(), SlidingWindow(2)): True,
    First(): True,
    Bidirectional(): False,
    LocalWindow(1): False,
    Longformer(): False,
    BigBird(): False,
    Strided(4): False,
    Both(Bidirectional(), Bidirectional()): False,
    Both(LocalWindow(3), Strided(4)): False,
    Late(): False,
}


@pytest.mark.parametrize("mask", CAUSAL, ids=repr)
def test_masks_know_whether_they_are_causal(mask):
    """Against the pairs they allow, written out."""
    places = np.arange(300)
    allowed = mask.allowed(places[:, None], places[None])
    seen = np.ones((300, 300), bool) if allowed is None else np.broadcast_to(allowed, (300, 300))
    assert mask.causal == CAUSAL[mask] == (not np.triu(seen, 1).any())
    assert Attention(mask=mask).causal == mask.causal


def test_an_encoder_has_no_cache_and_reads_inputs():
    model = nnx.eval_shape(lambda: Encoder(**SMALL, block=block(Bidirectional())).build(rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="EncoderNetwork has no cache"):
        model.init_cache(1, 4)
    tokens = jnp.zeros((1, 3), jnp.int32)
    for given, line in [
        (Inputs(), "reads tokens, positions, segments, coordinates; it was given nothing"),
        (Inputs(images=tokens), "it was given images"),
        (Inputs(tokens=tokens, source=Inputs(tokens=tokens)), "it was given tokens, source"),
    ]:
        with pytest.raises(UserError, match=line):
            model(given)
    # The type checker that the tests may run under refuses an array before the model can.
    with pytest.raises((UserError, TypeCheckError)) as error:
        model(tokens)
    if isinstance(error.value, UserError):
        assert str(error.value).startswith("EncoderNetwork is called with Inputs(tokens=...), not a")


def test_padding_is_seen_by_no_one():
    forward, params = tiny.forward(Encoder(**SMALL, block=block(Bidirectional())))
    tokens, segments = tiny.tokens(1, T), np.array([[1, 1, 1, 0, 0]], np.int32)
    run = tiny.jit(lambda tokens: forward(params, tokens, segments=segments).logits)
    other = np.where(segments > 0, tokens, 7)
    np.testing.assert_array_equal(run(tokens)[0, :3], run(other)[0, :3])
    short = tiny.jit(lambda tokens: forward(params, tokens).logits)(tokens[:, :3])
    tiny.close(run(tokens)[0, :3], short[0])

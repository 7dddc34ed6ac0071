"""The pair: what it sees and what it does not, its cache, its costs, and what it has in common with its halves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.cost import abstract, flops, parameters
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.params import merge, metadata, split
from arch.spec import SpecError, UserError
from tests.arch import tiny

V, D, F, S, T = 19, 16, 24, 7, 5
PLAIN = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=F))
SEEING = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=F))
CROSS = CrossAttention(heads=4, head_dim=6, kv_heads=2)
PAIR = EncoderDecoder(encoder=Trunk(V, D, 3, SEEING, embedding=None), decoder=Trunk(V, D, 2, reading(PLAIN, CROSS)))
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, V, (3, T)), jnp.int32)
SOURCE = Inputs(
    jnp.asarray(RNG.integers(0, V, (3, S)), jnp.int32),
    None,
    jnp.asarray(np.arange(S) < np.array([[S], [4], [1]]), jnp.int32),
)


def drawn(spec):
    graphdef, params = tiny.draw(spec)
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))


@pytest.fixture(scope="module")
def model():
    return drawn(PAIR)


@pytest.fixture(scope="module")
def call(model):
    graphdef, params, buffers = split(model)
    return tiny.jit(lambda inputs: merge(graphdef, params, buffers)(inputs).logits)


def test_cached_is_full_and_the_source_is_read_once(model, call):
    """Token by token behind a first call of two, with prompts of all rows at one place."""
    whole = call(Inputs(TOKENS, source=SOURCE))
    out = model(Inputs(TOKENS[:, :2], source=SOURCE), cache=model.init_cache(3, T))
    parts = [out.logits]
    for at in range(2, T):
        out = model(Inputs(TOKENS[:, at : at + 1]), cache=out.cache)
        parts.append(out.logits)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-5)


def test_a_step_reads_the_kept_source_where_it_lies(model):
    """No array of its keys' or values' size is in the order that layers speak of, which would be a copy."""
    cache = model(Inputs(TOKENS[:, :2], source=SOURCE), cache=model.init_cache(3, T)).cache
    graphdef, params, buffers = split(model)
    leaves, tree = jax.tree.flatten(cache)

    @tiny.jit
    def step(leaves):
        given = jax.tree.unflatten(tree, leaves)
        output = merge(graphdef, params, buffers)(Inputs(TOKENS[:, :1]), cache=given)
        return output.logits, jax.tree.leaves(output.cache)

    text = step.lower(leaves).compile().as_text()
    assert f"3,2,{S},6]" in text
    assert f"3,{S},2,6]" not in text


def test_logits_of_the_last_tokens_alone(model, call):
    """The same numbers, and the head reads no other token."""
    inputs = Inputs(TOKENS, source=SOURCE)
    out = model(inputs, last=2)
    tiny.close(out.logits, call(inputs)[:, -2:])
    assert out.hidden.shape == (3, T, D)
    whole, one = (flops(lambda inputs, last=last: model(inputs, last=last).logits, inputs) for last in (None, 1))
    assert whole - one == 3 * (T - 1) * 2 * D * V


def test_padding_of_the_source_is_never_seen(call):
    other = jnp.where(SOURCE.segments > 0, SOURCE.tokens, (SOURCE.tokens + 3) % V)
    one = call(Inputs(TOKENS, source=SOURCE))
    np.testing.assert_array_equal(one, call(Inputs(TOKENS, source=dataclasses.replace(SOURCE, tokens=other))))
    cut = Inputs(SOURCE.tokens[1:2, :4])
    np.testing.assert_allclose(one[1:2], drawn(PAIR)(Inputs(TOKENS[1:2], source=cut)).logits, atol=1e-5)


def test_every_token_of_the_source_reaches_every_output(model):
    """By the gradient with respect to the table's rows, source and target having no token in common."""
    graphdef, params, buffers = split(model)
    target, source = jnp.arange(T, dtype=jnp.int32)[None], jnp.arange(T, T + S, dtype=jnp.int32)[None]

    def output(table, at):
        changed = {**params, "decoder": {**params["decoder"], "embedding": {"table": table}}}
        out = merge(graphdef, changed, buffers)(Inputs(target, source=Inputs(source)))
        return jnp.sum(jnp.sin(out.hidden[0, at]))

    gradient = tiny.jit(jax.grad(output))
    for at in (0, T - 1):
        found = np.abs(gradient(params["decoder"]["embedding"]["table"], at)).sum(axis=1)
        assert (found[T : T + S] > 1e-6).all()
        assert (found[at + 1 : T] == 0).all()


def test_later_targets_are_not_seen(call):
    changed = TOKENS.at[:, 3:].set((TOKENS[:, 3:] + 1) % V)
    one, other = call(Inputs(TOKENS, source=SOURCE)), call(Inputs(changed, source=SOURCE))
    np.testing.assert_array_equal(one[:, :3], other[:, :3])
    assert (one[:, 3:] != other[:, 3:]).any()


def test_packed_pairs_are_pairs_alone(call):
    """Two pairs in one row see their own sources alone."""
    t, s = jnp.array([[0, 1, 2, 0, 1]], jnp.int32), jnp.array([[0, 1, 2, 3, 0, 1, 2]], jnp.int32)
    source = Inputs(SOURCE.tokens[:1], s, jnp.array([[1] * 4 + [2] * 3], jnp.int32))
    packed = Inputs(TOKENS[:1], t, jnp.array([[1] * 3 + [2] * 2], jnp.int32), source=source)
    found = drawn(PAIR)(packed).logits
    first = drawn(PAIR)(Inputs(TOKENS[:1, :3], source=Inputs(SOURCE.tokens[:1, :4]))).logits
    second = drawn(PAIR)(Inputs(TOKENS[:1, 3:], source=Inputs(SOURCE.tokens[:1, 4:]))).logits
    np.testing.assert_allclose(found, jnp.concatenate([first, second], axis=1), atol=1e-5)


def test_without_what_cross_attention_writes_it_is_the_decoder_bit_for_bit():
    """At step 0 of an upcycled decoder, whose cross-attention's outputs are zero."""
    graphdef, params, buffers = split(drawn(PAIR))
    blocks = params["decoder"]["stack"]["blocks"]
    blocks["cross"]["o"]["kernel"] = jnp.zeros_like(blocks["cross"]["o"]["kernel"])
    pair = merge(graphdef, params, buffers)
    decoder = Decoder(V, D, 2, PLAIN, head=Tied())
    own = {name: leaf for name, leaf in params["decoder"].items() if name != "stack"}
    own["stack"] = {"blocks": {name: leaf for name, leaf in blocks.items() if not name.startswith("cross")}}
    alone_graph, alone, no_buffers = split(abstract(decoder))
    assert jax.tree.structure(alone) == jax.tree.structure(own), "the paths are the decoder's"
    alone = merge(alone_graph, own, no_buffers)
    # Each operation by itself, for a compiler may fuse the two programs in different ways.
    np.testing.assert_array_equal(pair(Inputs(TOKENS, source=SOURCE)).logits, alone(Inputs(TOKENS)).logits)


def test_halves_have_the_paths_of_whole_models():
    rows = {path: row["shape"] for path, row in metadata(abstract(PAIR)).items()}
    encoder = metadata(abstract(Encoder(V, D, 3, SEEING, head=Tied())))
    for path, row in encoder.items():
        if not path.startswith("embedding"):
            assert rows[f"encoder.{path}"] == row["shape"]
    assert not any(path.startswith("encoder.embedding") for path in rows)
    two_tables = dataclasses.replace(PAIR, encoder=dataclasses.replace(PAIR.encoder, embedding=Embedding()))
    assert parameters(two_tables).total - parameters(PAIR).total == V * D


def test_flops_by_hand():
    """Source and target lengths apart: keys and values of the source are made once a layer."""
    product = lambda rows, inputs, outputs: 2 * rows * inputs * outputs  # noqa: E731
    own = lambda n: 4 * product(n, D, D) + 2 * product(n, D, n) + 2 * product(n, D, F)  # noqa: E731
    cross = product(T, D, 24) + product(T, 24, D) + 2 * product(S, D, 12) + 2 * product(T, 24, S)
    hand = 3 * own(S) + 2 * (own(T) + cross) + product(T, D, V)
    graphdef, params, buffers = split(abstract(PAIR))
    shape = lambda n: jax.ShapeDtypeStruct((1, n), jnp.int32)  # noqa: E731
    inputs = Inputs(shape(T), source=Inputs(shape(S)))
    assert flops(lambda p, b, i: merge(graphdef, p, b)(i).logits, params, buffers, inputs) == hand


def test_key_value_heads_by_groups_are_heads_of_their_own_repeated():
    few = CrossAttention(heads=4, head_dim=6, kv_heads=2)
    many = dataclasses.replace(few, kv_heads=None)
    with_cross = lambda cross: dataclasses.replace(  # noqa: E731
        PAIR, decoder=dataclasses.replace(PAIR.decoder, block=reading(PLAIN, cross))
    )
    graphdef, params, buffers = split(drawn(with_cross(few)))
    wide, _, _ = split(abstract(with_cross(many)))
    one = merge(graphdef, params, buffers)(Inputs(TOKENS, source=SOURCE)).logits
    for name in ("k", "v"):
        cross = params["decoder"]["stack"]["blocks"]["cross"]
        cross[name]["kernel"] = jnp.repeat(cross[name]["kernel"], 2, axis=2)
    other = merge(wide, params, buffers)(Inputs(TOKENS, source=SOURCE)).logits
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_memory_of_another_width():
    narrow = Trunk(V, 8, 1, SEEING)
    spec = EncoderDecoder(
        encoder=narrow, decoder=Trunk(V, D, 1, reading(PLAIN, CrossAttention(heads=2, memory_width=8))), head=Untied()
    )
    assert drawn(spec)(Inputs(TOKENS, source=SOURCE)).logits.shape == (3, T, V)
    with pytest.raises(SpecError, match=r"encoder.width=8: must be what the decoder's CrossAttention reads"):
        dataclasses.replace(spec, decoder=Trunk(V, D, 1, reading(PLAIN, CrossAttention(heads=2))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": Trunk(V, D, 2, PLAIN)}, r"decoder.block=.*must hold a CrossAttention"),
        ({"decoder": Trunk(V, D, 2, reading(SEEING))}, "must not see later tokens"),
        ({"decoder": Trunk(V, D, 2, reading(PLAIN), embedding=None)}, "decoder.embedding=None"),
        ({"encoder": Trunk(V + 1, D, 2, SEEING, embedding=None)}, r"encoder.vocab=20: must be the decoder's, 19"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(PAIR, **change)


def test_half_of_a_pair_is_no_model_and_a_source_is_needed(model):
    with pytest.raises(SpecError, match="embedding"):
        Decoder(V, D, 1, PLAIN, embedding=None)
    with pytest.raises(UserError, match="source="):
        model(Inputs(TOKENS))
    alone = Decoder(V, D, 1, reading(PLAIN)).build(rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="CrossAttention has nothing to read"):
        alone(Inputs(TOKENS))


def test_windows_and_fixed_caches_side_by_side():
    """A decoder that forgets its own tokens and keeps the source."""
    block = reading(PreNorm(mixer=Attention(heads=2, mask=SlidingWindow(2)), feed_forward=MLP(hidden=F)), CROSS)
    model = drawn(dataclasses.replace(PAIR, decoder=dataclasses.replace(PAIR.decoder, block=block)))
    whole = model(Inputs(TOKENS, source=SOURCE)).logits
    out = model(Inputs(TOKENS[:, :1], source=SOURCE), cache=model.init_cache(3, T))
    parts = [out.logits]
    for at in range(1, T):
        out = model(Inputs(TOKENS[:, at : at + 1]), cache=out.cache)
        parts.append(out.logits)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-5)
    shapes = {leaf.shape[2] for leaf in jax.tree.leaves(out.cache.layers) if leaf.ndim == 5}
    assert shapes == {2, S}, "two tokens of the target, all of the source"

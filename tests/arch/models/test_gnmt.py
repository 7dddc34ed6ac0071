"""GNMT against its equations; residual connections, source padding, caches, documents, bounds."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import TypeCheckError

from arch.cost import abstract
from arch.layers.attention.additive import NormedAdditiveAttention
from arch.layers.heads.clipped import ClippedHead
from arch.layers.recurrent.clip import ConstantClip
from arch.layers.recurrent.lstm_cell import LSTMCell
from arch.models.base import Inputs
from arch.models.gnmt import GNMT
from arch.models.recurrent import RecurrentDecoder, RecurrentEncoder
from arch.params import merge, split
from arch.spec import SpecError, UserError
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.models import gnmt_by_hand

V, W, D = 13, 11, 8
LENGTHS, TARGETS = (6, 4, 2), (5, 5, 3)
CELL = LSTMCell(clip=ConstantClip(0.4))


def gnmt(compat="paper", cell=LSTMCell(), depths=(4, 4), head=None, **fields):
    more = {"width": D, "cell": cell, **fields}
    spec = GNMT(
        encoder=RecurrentEncoder(vocab=W, depth=depths[0], **more),
        decoder=RecurrentDecoder(vocab=V, depth=depths[1], compat=compat, **more),
    )
    return spec if head is None else dataclasses.replace(spec, head=head)


def pairs(seed=0):
    """Three pairs, padded on the right."""
    rng = np.random.default_rng(seed)
    there = [np.arange(max(lengths))[None] < np.array(lengths)[:, None] for lengths in (LENGTHS, TARGETS)]
    source, target = (rng.integers(1, most, t.shape) * t for most, t in zip((W, V), there, strict=True))
    source, seen, target, own = (np.asarray(a, np.int32) for a in (source, there[0], target, there[1]))
    return Inputs(tokens=target, segments=own, source=Inputs(tokens=source, segments=seen))


@cache
def network(spec):
    """Large weights: attention is far from even, and the contexts of neighbouring steps far from each other."""
    forward, params = tiny.forward(spec)
    return forward, jax.tree.map(lambda leaf: 2.5 * leaf, params)


def run(spec, inputs, save=".*", params=None):
    forward, own = network(spec)
    call = tiny.jit(lambda params, inputs: forward(params, inputs.tokens, segments=inputs.segments,
                                                   source=inputs.source, tap=Tap(save=save)))  # fmt: skip
    return call(own if params is None else params, jax.tree.map(jnp.asarray, inputs))


@pytest.mark.parametrize("compat", ["paper", "gnmt_v2", "gnmt"])
def test_it_is_the_equations_of_the_paper(compat):
    """Logits and attention of every sentence; states and outputs are clipped."""
    spec, inputs = gnmt(compat, CELL), pairs()
    out = run(spec, inputs)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), network(spec)[1])
    for row, (n, m) in enumerate(zip(LENGTHS, TARGETS, strict=True)):
        table = params["encoder"]["embedding"]["table"]
        memory = gnmt_by_hand.encode(params["encoder"], table, inputs.source.tokens[row, :n], 3, clip=0.4)
        np.testing.assert_allclose(out.taps["encoder.memory"][row, :n], memory, atol=1e-5)
        logits, pattern = gnmt_by_hand.decode(params, memory, inputs.tokens[row, :m], 3, compat, clip=0.4)
        np.testing.assert_allclose(out.logits[row, :m], logits, atol=1e-5)
        np.testing.assert_allclose(out.taps["decoder.cross.attn.pattern"][row, 0, :m, :n], pattern, atol=1e-5)
    assert out.taps["decoder.cross.attn.pattern"].shape == (3, 1, max(TARGETS), max(LENGTHS))
    for half in ("encoder", "decoder"):
        for site in ("lstm.c", "resid_post"):
            reached = [float(np.abs(state).max()) for state in jax.tree.leaves(out.taps[f"{half}.{site}"])]
            assert max(reached) == np.float32(0.4), "nothing was clipped, or too little"


def passing(**fields):
    return dataclasses.replace(gnmt(**fields), compat="pass_hidden_state")


def test_the_decoder_begins_in_the_states_of_the_encoder():
    """Against numpy, sentences of unequal lengths; token by token from a cache, after padding too, it is the same."""
    spec, inputs = passing(cell=CELL), pairs()
    out = run(spec, inputs, save="decoder.cross.attn.pattern")
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), network(spec)[1])
    for row, (n, m) in enumerate(zip(LENGTHS, TARGETS, strict=True)):
        left = []
        table = params["encoder"]["embedding"]["table"]
        memory = gnmt_by_hand.encode(params["encoder"], table, inputs.source.tokens[row, :n], 3, 0.4, left)
        logits, _ = gnmt_by_hand.decode(params, memory, inputs.tokens[row, :m], 3, "paper", 0.4, left)
        np.testing.assert_allclose(out.logits[row, :m], logits, atol=1e-5)
    assert np.abs(np.asarray(run(gnmt(cell=CELL), inputs, "").logits) - np.asarray(out.logits)).max() > 1e-2

    graphdef, arrays = split(abstract(spec))[0], network(spec)[1]

    @tiny.jit
    def one_by_one(params):
        model = merge(graphdef, params, {})
        padding = ((0, 0), (1, 0))  # a prompt of one token, and padding before it
        first, seen = (jnp.pad(jnp.asarray(x[:, :1]), padding) for x in (inputs.tokens, inputs.segments))
        source = jax.tree.map(jnp.asarray, inputs.source)
        step = model(Inputs(first, segments=seen, source=source), cache=model.init_cache(3, 8))
        found = [step.logits[:, -1]]
        for place in range(1, max(TARGETS)):
            step = model(Inputs(jnp.asarray(inputs.tokens[:, place : place + 1])), cache=step.cache)
            found.append(step.logits[:, -1])
        return jnp.stack(found, axis=1)

    there = inputs.segments > 0
    np.testing.assert_allclose(one_by_one(arrays)[there], np.asarray(out.logits)[there], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"depths": (1, 1)}, {"depths": (2, 2)}, {"compat": "gnmt_v2"}])
def test_states_are_passed_between_all_shapes(fields):
    """One that both halves hold: the states of a source matter to the first token, and source padding does not."""
    spec, inputs = passing(**fields), pairs()
    longer = jax.tree.map(lambda a: np.pad(a, ((0, 0), (0, 2))), inputs.source)
    tiny.close(run(spec, dataclasses.replace(inputs, source=longer), "").logits, run(spec, inputs, "").logits)


def test_states_that_cannot_be_passed():
    with pytest.raises(SpecError, match=r"encoder\.depth=3: must be the decoder's, 4, to pass it the states"):
        passing(depths=(3, 4))
    with pytest.raises((SpecError, TypeCheckError), match="passed"):
        dataclasses.replace(gnmt(), compat="passed")
    inputs = pairs()
    packed = dataclasses.replace(inputs, source=dataclasses.replace(inputs.source, positions=inputs.source.segments))
    model = merge(*split(abstract(passing(depths=(1, 1)))))
    with pytest.raises(UserError, match="passes the states of one source a row"):
        jax.eval_shape(model, packed)


def test_the_variants_are_three():
    logits = [np.asarray(run(gnmt(compat), pairs()).logits) for compat in ("paper", "gnmt_v2", "gnmt")]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in [logits[:2], logits[1:], logits[::2]])


@pytest.mark.parametrize("residual_from", [None, 3, 4])
def test_upper_layers_of_zeros_are_the_identity_where_they_have_residuals(residual_from):
    """An LSTM of zeros writes zero: what comes through is what the last layer without a residual wrote."""
    spec = gnmt(residual_from=residual_from)
    _, params = network(spec)

    def blank(half, number):
        cell = jax.tree.map(np.copy, half["layers"]["sections"][number])
        layers = slice(0 if number == "1" else 1, None)  # above layer 2
        for leaf in jax.tree.leaves(cell):
            leaf[layers] = 0
        return {**half, "layers": {"sections": {**half["layers"]["sections"], number: cell}}}

    params = {**params, "encoder": blank(params["encoder"], "1"), "decoder": blank(params["decoder"], "0")}
    taps = run(spec, pairs(), params=params).taps
    for half in ("encoder", "decoder"):
        post = [np.asarray(z) for z in taps[f"{half}.resid_post"]]
        np.testing.assert_array_equal(post[2], post[1] if residual_from == 3 else np.zeros_like(post[2]))
        np.testing.assert_array_equal(post[3], post[2] if residual_from else np.zeros_like(post[3]))
        assert np.abs(post[1]).max() > 0.1


def test_nothing_depends_on_source_padding():
    inputs = pairs()
    other = inputs.source.tokens + 3 * (inputs.source.segments == 0)
    longer = [np.pad(a, ((0, 0), (0, 2))) for a in (other, inputs.source.segments)]
    moved = dataclasses.replace(inputs, source=Inputs(tokens=longer[0], segments=longer[1]))
    spec = gnmt()
    tiny.close(run(spec, moved).logits, run(spec, inputs).logits)
    pattern = np.asarray(run(spec, moved).taps["decoder.cross.attn.pattern"])[:, 0]
    assert (pattern.transpose(0, 2, 1)[longer[1] == 0][:, :2] == 0).all()
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-6)


def test_packed_pairs_are_pairs_by_themselves():
    """Two sentences in one row of source and of target, by their segments."""
    spec, inputs = gnmt("gnmt_v2", depths=(3, 2)), pairs()
    join = lambda a: np.concatenate([a[0], a[1]])[None]  # noqa: E731
    number = lambda there: np.concatenate([there[0], 2 * there[1]])[None]  # noqa: E731
    source = Inputs(tokens=join(inputs.source.tokens), segments=number(inputs.source.segments))
    packed = Inputs(tokens=join(inputs.tokens), segments=number(inputs.segments), source=source)
    apart = np.asarray(run(spec, inputs).logits)[:2].reshape(1, -1, V)
    real = join(inputs.segments) > 0
    np.testing.assert_allclose(np.asarray(run(spec, packed).logits)[real], apart[real], atol=1e-5)


@pytest.mark.parametrize("compat", ["paper", "gnmt"])
def test_cached_decoding_is_the_full_forward(compat):
    """A prompt padded on the left with the source, then token after token, then two tokens back."""
    spec = gnmt(compat, depths=(3, 3))
    forward, params = network(spec)
    inputs = jax.tree.map(jnp.asarray, pairs())
    whole = np.asarray(run(spec, dataclasses.replace(inputs, segments=None)).logits)
    call = tiny.jit(lambda tokens, cache, source, segments: forward(
        params, tokens, cache=cache, source=source, segments=segments))  # fmt: skip
    cache = nnx.merge(tiny.draw(spec)[0], params).init_cache(3, 8, snapshots=3)
    prompt = jnp.pad(inputs.tokens[:, :2], ((0, 0), (1, 0)), constant_values=5)
    out = call(prompt, cache, inputs.source, jnp.array([[0, 1, 1]] * 3, jnp.int32))
    np.testing.assert_allclose(out.logits[:, 1:], whole[:, :2], atol=1e-5)
    for t in (2, 3, 4):
        out = call(inputs.tokens[:, t : t + 1], out.cache, None, None)
        np.testing.assert_allclose(out.logits[:, 0], whole[:, t], atol=1e-5)
    back = out.cache.rewound(out.cache.index - 2).reordered(jnp.array([2, 0, 1]))
    out = call(inputs.tokens[jnp.array([2, 0, 1]), 3:4], back, None, None)
    np.testing.assert_allclose(out.logits[:, 0], whole[[2, 0, 1], 3], atol=1e-5)


def test_an_edit_of_the_pattern_moves_the_logits():
    forward, params = network(gnmt())
    inputs = jax.tree.map(jnp.asarray, pairs())
    even = Tap(edit={"decoder.cross.attn.pattern": lambda p, layer: jnp.ones_like(p) / p.shape[-1]})
    out = forward(params, inputs.tokens, segments=inputs.segments, source=inputs.source, tap=even)
    assert np.abs(np.asarray(out.logits) - np.asarray(run(gnmt(), pairs()).logits)).max() > 1e-3


def test_other_parts_and_depths():
    """One layer in each half (the memory is then twice as wide), a table for both, normed attention, clipped logits."""
    spec = GNMT(
        encoder=RecurrentEncoder(vocab=V, width=D, depth=1, embedding=None),
        decoder=RecurrentDecoder(vocab=V, width=D, depth=1, attention=NormedAdditiveAttention()),
        head=ClippedHead(gamma=0.2),
    )
    out = run(spec, pairs())
    assert out.taps["encoder.memory"].shape == (3, max(LENGTHS), 2 * D)
    assert np.abs(out.logits).max() == np.float32(0.2)
    assert "encoder" in network(spec)[1]
    assert "embedding" not in network(spec)[1]["encoder"]


def test_mistakes_are_told():
    with pytest.raises(SpecError, match=r"residual_from=2: must be at least 3: the second layer reads twice"):
        RecurrentEncoder(residual_from=2)
    with pytest.raises(SpecError, match=r"encoder.width=16: must be the decoder's, 8"):
        GNMT(RecurrentEncoder(vocab=V, width=16, embedding=None), RecurrentDecoder(vocab=V, width=8))
    with pytest.raises(UserError, match="needs Inputs"):
        run(gnmt(), dataclasses.replace(pairs(), source=None))

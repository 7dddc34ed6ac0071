"""Bottlenecks at sites inside blocks: where they stand, what they leave as it is, and that they compose."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import Parallel, PostNorm, PreNorm
from arch.blocks.at import sites
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import Grouped, PerHead
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.context import Gates
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import merge, split
from arch.spec import SpecError
from arch.stacks import Cycle, Sequential
from arch.taps import Tap
from tests.arch import tiny

B, T, D = 2, 6, 16
SITES = r"attn\.z.*|mlp_out.*"
AT = (("attn.z", PerHead(Codebook(codes=8, k=2))), ("mlp_out", Grouped(VectorQuantized(codes=4), groups=2)))


def model(at=AT, kind=PreNorm, loop="scan", remat="none", pattern=False):
    block = kind(mixer=Attention(heads=2), feed_forward=MLP(hidden=24), at=at)
    block = Cycle((block, dataclasses.replace(block, at=()))) if pattern else block
    return Decoder(vocab=tiny.V, width=D, depth=2, block=block, stack=Sequential(loop=loop, remat=remat))


@functools.cache
def built(spec):
    return split(spec.build(rngs=nnx.Rngs(0)))


@functools.cache
def compiled(spec, save, edit):
    """`fn(state, told)`, once for all gates."""
    graph, tap = built(spec)[0], None if not save and not edit else Tap(save=save, edit=dict(edit))
    inputs = Inputs(tokens=jnp.asarray(tiny.tokens(B, T)))
    return tiny.jit(lambda state, told: merge(graph, *state)(inputs, tap=tap, **told))


def run(spec, state=None, save="", edit=(), **told):
    """The output of `spec`, with the parameters and buffers `state`; by default its own."""
    return compiled(spec, save, edit)(state or built(spec)[1:], told)


def without(tree):
    return {**tree, "stack": {"blocks": {name: sub for name, sub in tree["stack"]["blocks"].items() if name != "at"}}}


def test_the_block_keeps_its_parameters_and_their_paths():
    _, params, buffers = built(model())
    _, bare, none = built(model(at=()))
    jax.tree.map(np.testing.assert_array_equal, without(params), bare)
    assert none == {}
    assert set(params["stack"]["blocks"]["at"]) == {"attn_z"}
    assert set(buffers["stack"]["blocks"]["at"]) == {"attn_z", "mlp_out"}
    first, second = params["stack"]["blocks"]["at"]["attn_z"]["each"]["codes"]
    assert not np.array_equal(first, second)


def test_without_bottlenecks_the_program_is_the_same():
    """At a site of nothing; and a gate that is closed gives the base model's logits bit for bit."""
    _, params, _ = built(model())
    base = run(model(at=()), (without(params), {})).logits
    no, yes = jnp.zeros(2, bool), jnp.ones(2, bool)
    gated = lambda z, out: run(model(), save=SITES, gates=Gates({"attn.z": z, "mlp_out": out}))  # noqa: E731
    np.testing.assert_array_equal(gated(no, no).logits, base)
    on = run(model(), save=SITES).logits
    assert np.abs(on - base).max() > 1e-2
    np.testing.assert_array_equal(gated(yes, yes).logits, on)
    half = gated(jnp.asarray([True, False]), no)
    np.testing.assert_array_equal(half.taps["attn.z"][1], half.taps["attn.z.in"][1])
    assert np.abs(half.taps["attn.z"][0] - half.taps["attn.z.in"][0]).max() > 1e-2
    with pytest.raises(ValueError, match=r"gates are given for attn\.q; the layers have attn\.z, block"):
        run(model(), gates=Gates({"attn.q": no}))


def test_sites_show_codes_and_the_values_are_theirs():
    out = run(model(), save=SITES)
    codes = np.asarray(built(model())[1]["stack"]["blocks"]["at"]["attn_z"]["each"]["codes"])
    ids = np.asarray(out.taps["attn.z.codes"])
    assert ids.shape == (2, B, T, 2, 2)
    for layer in range(2):
        for head in range(2):
            summed = codes[layer, head][ids[layer, :, :, head]].sum(-2)
            np.testing.assert_allclose(out.taps["attn.z"][layer, :, :, head], summed, atol=1e-6)
    gap = np.square(out.taps["attn.z"] - out.taps["attn.z.in"]).mean((1, 2, 3, 4))
    np.testing.assert_allclose(out.losses["at.attn_z.reconstruction"].value, gap, rtol=1e-5)
    assert out.taps["mlp_out.codes"].shape == (2, B, T, 2, 1)
    assert set(out.losses) == {"at.attn_z.reconstruction", "at.mlp_out.commitment"}
    assert set(out.statistics) == {"stack.blocks.at.attn_z", "stack.blocks.at.mlp_out"}


def test_codes_can_be_replaced():
    """By those that are there: nothing changes, bit for bit. By code 3 twice at every place: twice that code."""
    plain = run(model(), save=SITES)
    second = lambda codes, layer: jnp.where(layer == 1, jnp.full_like(codes, 3), codes)  # noqa: E731
    out = run(model(), save=SITES, edit=(("attn.z.codes", second),))
    for site in ("attn.z", "mlp_out"):
        np.testing.assert_array_equal(out.taps[site][0], plain.taps[site][0])
    codes = built(model())[1]["stack"]["blocks"]["at"]["attn_z"]["each"]["codes"]
    twice = np.broadcast_to(2 * codes[1, :, 3], out.taps["attn.z"][1].shape)
    np.testing.assert_allclose(out.taps["attn.z"][1], twice, atol=1e-6)
    assert np.abs(out.logits - plain.logits).max() > 1e-3


@pytest.mark.parametrize(
    "other",
    [
        {"loop": "unroll"},
        {"remat": "full"},
        pytest.param({"loop": "unroll", "remat": "dots"}, marks=pytest.mark.slow, id="unroll-dots"),
    ],
    ids=lambda other: "-".join(other.values()),
)
def test_scanned_unrolled_and_rematerialised_alike(other):
    tiny.close(loss(model(**other)), loss(model()))


@functools.cache
def loss(spec):
    """The loss of a model, losses of bottlenecks included, and its gradient."""
    graph, params, buffers = abstract(spec), *built(model())[1:]

    def of(params):
        out = merge(graph, params, buffers)(Inputs(tokens=jnp.asarray(tiny.tokens(B, T))))
        return jnp.sum(jnp.square(out.logits)) + sum(jnp.sum(one.value) for one in out.losses.values())

    return tiny.jit(jax.value_and_grad(of))(params)


def abstract(spec):
    """The graph of a model, of which nothing is computed."""
    return split(nnx.eval_shape(lambda: spec.build(rngs=nnx.Rngs(0))))[0]


def test_in_a_pattern_some_layers_have_one():
    out = run(model(pattern=True), save=r"attn\.z\.codes|attn\.z")
    assert out.taps["attn.z.codes"].shape == (1, B, T, 2, 2)
    assert out.taps["attn.z"].shape == (2, B, T, 2, 8)
    assert np.shape(out.losses["at.attn_z.reconstruction"].total) == (1,)


@pytest.mark.parametrize("kind", [PostNorm, Parallel])
def test_other_blocks_have_them_too(kind):
    """Only shapes: what a bottleneck does at a site is the same in all."""
    spec = model(kind=kind)
    graph, params, buffers = split(nnx.eval_shape(lambda: spec.build(rngs=nnx.Rngs(0))))
    inputs, tap = Inputs(tokens=jnp.asarray(tiny.tokens(B, T))), Tap(save="mlp_out.*")

    def told(params, buffers):
        out = merge(graph, params, buffers)(inputs, tap=tap)
        return out.taps, out.statistics

    taps, statistics = jax.eval_shape(told, params, buffers)
    assert taps["mlp_out.codes"].shape == (2, B, T, 2, 1)
    assert set(statistics) == {"stack.blocks.at.attn_z", "stack.blocks.at.mlp_out"}


def test_sites_of_a_further_sublayer():
    block = PreNorm(extra=(("cross", CrossAttention(heads=2, memory_width=12)),), mixer=Attention(heads=4))
    found = sites(block, D)
    assert found["cross.attn.z"] == (2, 8)
    assert found["attn.z"] == (4, 4)
    assert found["cross_out"] == found["resid_after_cross"] == (D,)
    assert not {"attn.scores", "attn.pattern", "cross.attn.k"} & set(found)  # no vectors of tokens


@pytest.mark.parametrize(
    ("at", "line"),
    [
        ((("mlp_outt", Codebook()),), r"has no site mlp_outt of vectors of tokens; this block has attn\.k, "),
        ((("attn.pattern", Codebook()),), r"has no site attn\.pattern"),
        ((("attn.z", Codebook()), ("attn.z", Codebook())), "must have one bottleneck at a site"),
        ((("mlp_out", PerHead(Codebook())),), "must stand at a site that has heads, such as attn.z"),
        ((("mlp_out", Grouped(Codebook(), groups=3)),), "must divide the width 16"),
    ],
)
def test_what_is_refused(at, line):
    with pytest.raises(SpecError, match=line):
        built(model(at))

"""Patterns: what repeats is one loop, and every form of a pattern is a loop by hand over its single layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import BareMixer, PostNorm, PreNorm
from arch.blocks.depth_scaled import ScaledNorm
from arch.blocks.mix_norm import MixNorm
from arch.context import Gates
from arch.layers.caches import Growing, Window
from arch.layers.feed_forward import GatedMLP
from arch.spec import SpecError
from arch.stacks import Cycle, FirstThen, Grouped, LayerSubset, Listed, Split
from arch.stacks.patterns import sections
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.stacks import test_between
from tests.arch.stacks.by_hand import (
    FULL,
    LOCAL,
    NARROW,
    WIDE,
    B,
    D,
    T,
    by_hand,
    each_layer,
    form,
    model,
    pre,
    together,
)

A, C, FIRST = PreNorm(), PostNorm(), BareMixer()


@pytest.mark.parametrize(
    ("layers", "breaks", "found"),
    [
        ("AACAACA", (), [(0, "AAC", 2), (6, "A", 1)]),
        ("ACCCC", (), [(0, "A", 1), (1, "C", 4)]),
        ("AAAA", (), [(0, "A", 4)]),
        ("ACAC", (), [(0, "AC", 2)]),
        ("ACACA", (), [(0, "AC", 2), (4, "A", 1)]),
        ("A", (), [(0, "A", 1)]),
        ("AAAA", (1,), [(0, "A", 1), (1, "A", 3)]),
        ("ACAC", (2,), [(0, "A", 1), (1, "C", 1), (2, "A", 1), (3, "C", 1)]),
        ("AAAA", (0, 4), [(0, "A", 4)]),
        ("AACAACA", (3, 6), [(0, "A", 2), (2, "C", 1), (3, "A", 2), (5, "C", 1), (6, "A", 1)]),
    ],
)
def test_sections_by_hand(layers, breaks, found):
    blocks = {"A": A, "C": C}
    expected = [(first, tuple(blocks[name] for name in period), repeats) for first, period, repeats in found]
    assert [tuple(one) for one in sections([blocks[name] for name in layers], breaks)] == expected
    numbers = [n for one in sections([blocks[name] for name in layers], breaks) for n in layers_of_section(one)]
    assert sorted(numbers) == list(range(len(layers)))


def layers_of_section(section):
    return [layer for place in range(len(section.period)) for layer in section.layers(place)]


def test_which_block_each_layer_is():
    assert Cycle((A, A, C)).layers(7) == (A, A, C, A, A, C, A)
    assert Split(A, C, 0.5).layers(5) == (A, A, C, C, C)
    assert Split(A, C, 0.0).layers(2) == (C, C)
    assert Split(A, C, 1.0).layers(2) == (A, A)
    assert Listed((A, C, A)).layers(3) == (A, C, A)
    assert Listed((A, C, A)).blocks == (A, C)
    assert FirstThen((FIRST,), (A, A, C)).layers(7) == (FIRST, A, A, C, A, A, C)
    assert FirstThen((A, C), (FIRST,)).layers(1) == (A,)
    assert FirstThen((A,), (A, C)).blocks == (A, C)
    for make, line in [
        (lambda: FirstThen((), (A,)), r"FirstThen\.first"),
        (lambda: FirstThen((A,), ()), r"FirstThen\.period"),
        (lambda: Cycle(()), r"Cycle\.period"),
        (lambda: Listed(()), r"Listed\.each"),
        (lambda: Split(A, C, 1.5), r"Split\.fraction"),
        (lambda: Listed((A, C)).layers(3), r"Listed\.each.*must hold 3 blocks"),
        (lambda: tiny.draw(model(Cycle((A, C)), stack=Grouped())), "must be one block"),
    ]:
        with pytest.raises(SpecError, match=line):
            make()


PATTERNS = {
    "windows": model(Cycle((pre(mixer=LOCAL), pre())), depth=5),
    "widths": model(Listed((NARROW, WIDE, WIDE, WIDE))),
    "norms": model(Split(pre(kind=PostNorm), pre(), 0.5)),
    "depth": model(Cycle((pre(kind=ScaledNorm, mixer=LOCAL), pre(kind=ScaledNorm)))),
    "parts": model(Cycle((pre(None), pre(), pre())), depth=3),
    "between": test_between.SPEC,
}
FORMS = [("scan", "none"), ("unroll", "none"), ("scan", "full")]


def loss_of(forward):
    weights = np.random.default_rng(0).standard_normal((B, T, tiny.V)).astype(np.float32)

    def loss(params):
        logits = forward(params)
        return jnp.sum(logits * weights), logits

    return tiny.jit(jax.grad(loss, has_aux=True))


@pytest.fixture(scope="module")
def hand():
    """`fn(name)` -> gradient and logits of a pattern, by hand; each is compiled once."""
    known = {}

    def run(name):
        if name not in known:
            spec = PATTERNS[name]
            params = jax.tree.map(jnp.asarray, tiny.draw(spec)[1])
            known[name] = loss_of(lambda params: by_hand(spec, params, tiny.tokens(B, T))[0])(params)
        return known[name]

    return run


@pytest.mark.parametrize(("loop", "remat"), FORMS)
@pytest.mark.parametrize("name", PATTERNS)
def test_every_form_is_the_loop_by_hand(name, loop, remat, hand):
    """Logits and gradients; each layer is told its own index."""
    forward, params = tiny.forward(form(PATTERNS[name], loop=loop, remat=remat))
    tiny.close(loss_of(lambda params: forward(params, tiny.tokens(B, T)).logits)(params), hand(name))


def test_the_order_of_layers_matters():
    """Else the comparison above would not see layers that change places."""
    spec = PATTERNS["depth"]
    params = jax.tree.map(jnp.asarray, tiny.draw(spec)[1])
    layers = [own for _, own in each_layer(spec, params)]
    moved = together(spec, params, [layers[2], layers[1], layers[0], layers[3]])
    run = tiny.jit(lambda params: by_hand(spec, params, tiny.tokens(B, T))[0])
    assert np.abs(run(moved) - run(params)).max() > 0.1


def test_a_split_of_norms_is_mix_norm():
    fields = {"mixer": FULL, "feed_forward": GatedMLP(hidden=8)}
    spec = model(Split(PostNorm(**fields), PreNorm(**fields), 0.25))
    mixed, params = tiny.forward(model(MixNorm(**fields, fraction=0.25)))
    forward, own = tiny.forward(spec)
    blocks = params["stack"]["blocks"]
    layers = [jax.tree.map(lambda leaf, n=n: leaf[n], blocks) for n in range(4)]
    run = lambda forward: loss_of(lambda params: forward(params, tiny.tokens(B, T)).logits)  # noqa: E731
    gradient, logits = run(forward)({**params, "stack": together(spec, own, layers)["stack"]})
    expected, expected_logits = run(mixed)(params)
    tiny.close(logits, expected_logits)
    layers = [jax.tree.map(lambda leaf, n=n: leaf[n], expected["stack"]["blocks"]) for n in range(4)]
    tiny.close(gradient, {**expected, "stack": together(spec, own, layers)["stack"]})


KEEP = Gates(
    block=np.array([True, True, False, True, True]),
    mixer=np.float32([1, 0.5, 1, 0, 1]),
    feed_forward=np.random.default_rng(0).random((5, B, T)) < 0.5,
)


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_gates_and_taps_belong_to_the_layer(loop):
    """Each layer has its own gates; what is saved is in the order of layers, and edits see the layer's index."""
    save = "resid_post|attn.v|mlp_out"
    spec = form(PATTERNS["windows"], loop=loop)
    forward, params = tiny.forward(spec)
    params = jax.tree.map(jnp.asarray, params)
    numbered = Tap(save="attn_out", edit={"attn_out": lambda x, layer: 0 * x + jnp.asarray(layer, x.dtype)})

    @tiny.jit
    def run(params):
        out = forward(params, tiny.tokens(B, T), gates=KEEP, tap=Tap(save=save))
        plain = forward(params, tiny.tokens(B, T), gates=KEEP).logits
        indices = forward(params, tiny.tokens(B, T), tap=numbered).taps["attn_out"][:, 0, 0, 0]
        return out.logits, plain, out.taps, indices, by_hand(spec, params, tiny.tokens(B, T), KEEP, save)

    logits, plain, taps, indices, (expected, saved) = run(params)
    tiny.close(logits, expected)
    tiny.close(plain, expected)
    tiny.close(taps, {site: np.stack([one[site] for one in saved]) for site in saved[0]})
    np.testing.assert_array_equal(indices, np.arange(5.0))


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_sites_of_different_shapes_are_a_tuple_and_missing_ones_are_left_out(loop):
    spec = form(model(Listed((WIDE, pre(None), NARROW, WIDE))), loop=loop)
    forward, params = tiny.forward(spec)
    params = jax.tree.map(jnp.asarray, params)
    save = "mlp.post|mlp_out|attn.pattern"
    run = tiny.jit(lambda params: forward(params, tiny.tokens(B, T), tap=Tap(save=save)).taps)
    hand = tiny.jit(lambda params: by_hand(spec, params, tiny.tokens(B, T), save=save)[1])
    taps, saved = run(params), hand(params)
    assert [leaf.shape for leaf in taps["mlp.post"]] == [(B, T, 24), (B, T, 8), (B, T, 24)]
    tiny.close(taps["mlp.post"], tuple(saved[layer]["mlp.post"] for layer in (0, 2, 3)))
    tiny.close(taps["mlp_out"], np.stack([saved[layer]["mlp_out"] for layer in (0, 2, 3)]))
    tiny.close(taps["attn.pattern"], np.stack([one["attn.pattern"] for one in saved]))


def test_a_gate_that_one_kind_of_layer_has_is_known():
    spec = model(Cycle((pre(None), pre())))
    forward, params = tiny.forward(spec)
    jax.eval_shape(lambda p: forward(p, tiny.tokens(B, T), gates=Gates(feed_forward=np.ones(4, bool))).logits, params)
    with pytest.raises(ValueError, match="gates are given for cross; the layers have block, feed_forward, mixer"):
        forward(params, tiny.tokens(B, T), gates=Gates(cross=np.ones(4, bool)))


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_layers_that_are_kept_keep_their_block_and_index(loop):
    """Against the whole model with the gates of the others closed, where blocks and the factors depend on the layer."""
    whole = form(model(PATTERNS["depth"].block, depth=5), loop=loop)
    cut = dataclasses.replace(form(whole, kept=LayerSubset((0, 1, 3, 4), 5)), depth=4)
    forward, params = tiny.forward(whole)
    shallow, own = tiny.forward(cut)
    layers = [one for _, one in each_layer(whole, params)]
    pruned = {**params, "stack": together(cut, own, [layers[n] for n in (0, 1, 3, 4)])["stack"]}
    gates = Gates(block=np.array([True, True, False, True, True]))
    gated = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), gates=gates).logits)(params)
    tiny.close(tiny.jit(lambda p: shallow(p, tiny.tokens(B, T)).logits)(pruned), gated)


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_cached_decoding_is_the_full_forward(loop):
    """Layers with a window remember its tokens alone, the others all of them."""
    spec = form(PATTERNS["windows"], loop=loop)
    forward, params = tiny.forward(spec)
    tokens = tiny.tokens(B, T)

    found, cache = tiny.jit(tiny.in_pieces(spec, tokens, (3, 4, T)))(params)
    full = tiny.jit(lambda params: forward(params, tokens).logits)(params)
    tiny.close(found, full)
    caches = {place: cache.layers["0"][place]["mixer"] for place in "01"}
    assert isinstance(caches["0"], Window)
    assert caches["0"].entries["k"].shape == (2, B, 2, 2, D // 2)
    assert isinstance(caches["1"], Growing)
    assert caches["1"].entries["k"].shape == (2, B, 2, T, D // 2)


def test_a_layer_starts_as_in_a_stack_of_its_kind():
    """Initial values follow the layer's index alone, whatever the layers around it are."""
    build = lambda spec: jax.jit(lambda: nnx.to_pure_dict(nnx.state(spec.build(rngs=nnx.Rngs(0)), nnx.Param)))()  # noqa: E731
    mixed = model(Listed((NARROW, WIDE, WIDE, NARROW)))
    layers = [own for _, own in each_layer(mixed, build(mixed))]
    for block, indices in ((NARROW, (0, 3)), (WIDE, (1, 2))):
        blocks = build(model(block))["stack"]["blocks"]
        for n in indices:
            tiny.close(layers[n], jax.tree.map(lambda leaf, n=n: leaf[n], blocks), 0, 0)
    assert np.abs(layers[0]["mixer"]["q"]["kernel"] - layers[3]["mixer"]["q"]["kernel"]).max() > 0


def test_dropout_follows_the_layer():
    """A layer drops the same places in a pattern as in a stack of its kind, and in every loop."""
    narrow, wide = (dataclasses.replace(block, dropout=0.5) for block in (NARROW, WIDE))
    zeros, key = [], jax.random.key(0)
    for block, loop in [(narrow, "scan"), (Listed((narrow, wide, wide)), "scan"), (Cycle((narrow, wide)), "unroll")]:
        forward, params = tiny.forward(form(model(block, depth=3), loop=loop))

        def run(params, forward=forward):
            return forward(params, tiny.tokens(B, T), key=key, tap=Tap(save="mlp_out")).taps["mlp_out"]

        zeros.append(np.asarray(tiny.jit(run)(params)) == 0)
    np.testing.assert_array_equal(zeros[1], zeros[0])
    np.testing.assert_array_equal(zeros[2], zeros[0])
    assert (zeros[0][0] != zeros[0][1]).any()

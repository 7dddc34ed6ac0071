"""Depth: scan, unrolled and rematerialised are one function; a closed gate is a missing layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import TypeCheckError

from arch.blocks import PreNorm
from arch.context import Gates
from arch.spec import SpecError
from arch.stacks import Sequential
from arch.stacks.base import unstack
from arch.taps import Tap
from tests.arch import tiny

B, T = 2, 6


@pytest.fixture(scope="module")
def logits_and_gradient():
    """`fn(spec)` -> (gradient of a random function of the logits, logits); each program is compiled once."""
    known = {}

    def run(spec):
        if spec not in known:
            forward, params = tiny.forward(spec)
            weights = np.random.default_rng(0).standard_normal((B, T, tiny.V)).astype(np.float32)

            def loss(params):
                out = forward(params, tiny.tokens(B, T))
                return jnp.sum(out.logits * weights), out.logits

            known[spec] = tiny.jit(jax.grad(loss, has_aux=True))(params)
        return known[spec]

    return run


FORMS = [("unroll", "none"), ("scan", "full"), ("scan", "dots"), ("scan", "dots_no_batch")]


@pytest.mark.parametrize(
    ("block", "loop", "remat"),
    [
        *((block, *form) for block in ("pre", "post", "sandwich", "parallel") for form in FORMS),
        *((block, "unroll", "none") for block in list(tiny.BLOCKS)[4:]),
    ],
)
def test_every_form_is_one_function(block, loop, remat, logits_and_gradient):
    """Logits and gradients are those of scan without rematerialisation."""
    plain = logits_and_gradient(tiny.decoder(block=block))
    tiny.close(logits_and_gradient(tiny.decoder(block=block, loop=loop, remat=remat)), plain)


@pytest.mark.parametrize("remat", ["full", "dots", "dots_no_batch"])
def test_unrolled_rematerialisation(remat, logits_and_gradient):
    plain = logits_and_gradient(tiny.decoder())
    tiny.close(logits_and_gradient(tiny.decoder(loop="unroll", remat=remat)), plain)


def products(spec):
    """Matrix products in the program of one gradient, not multiplied by the scan's length."""
    forward, params = tiny.forward(spec)
    text = str(jax.make_jaxpr(jax.grad(lambda p: forward(p, tiny.tokens(B, T)).logits.sum()))(params))
    return text.count("dot_general")


def test_policies_recompute_what_they_say():
    """Nothing, the products with batch dimensions (two of attention), or all but the last one of the block."""
    none = products(tiny.decoder())
    assert products(tiny.decoder(remat="dots")) == none
    assert products(tiny.decoder(remat="dots_no_batch")) == none + 2
    # q, k, v, o, scores, pattern and three of the gated MLP; the last product's result is no one's input.
    assert none + 7 <= products(tiny.decoder(remat="full")) <= none + 9


def test_scan_compiles_one_block_whatever_the_depth():
    forward = {depth: tiny.forward(tiny.decoder(depth=depth)) for depth in (2, 6)}
    lengths = [len(str(jax.make_jaxpr(fn)(params, tiny.tokens(B, T)))) for fn, params in forward.values()]
    assert abs(lengths[1] - lengths[0]) < 0.01 * lengths[0]


def test_scan_and_unroll_share_one_layout():
    scanned, unrolled = (tiny.draw(tiny.decoder(loop=loop))[1] for loop in ("scan", "unroll"))
    tiny.close(scanned, unrolled, 0, 0)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(scanned["stack"]["blocks"])} == {2}


def pick(params, kept):
    """The parameters of the layers `kept`, as a shallower model has them."""
    blocks = jax.tree.map(lambda p: p[np.asarray(kept)], params["stack"]["blocks"])
    return {**params, "stack": {**params["stack"], "blocks": blocks}}


@pytest.mark.parametrize(("block", "loop"), [*((block, "scan") for block in tiny.BLOCKS), ("pre", "unroll")])
def test_a_closed_block_is_a_missing_layer(block, loop):
    forward, params = tiny.forward(tiny.decoder(block=block, loop=loop, depth=3, norm=tiny.BIASED))
    kept = ((0, 2), 3)
    shallow, _ = tiny.forward(tiny.decoder(block=block, loop=loop, depth=2, norm=tiny.BIASED, kept=kept))
    tokens = tiny.tokens(B, T)
    run = tiny.jit(lambda params, gates: forward(params, tokens, gates=gates).logits)
    gated = run(params, Gates(block=np.array([True, False, True])))
    without = tiny.jit(lambda params: shallow(params, tokens).logits)(pick(params, [0, 2]))
    tiny.close(gated, without, 1e-6, 1e-6)
    # The same program, all gates open, is the model without gates.
    full = tiny.jit(lambda params: forward(params, tokens).logits)(params)
    tiny.close(run(params, Gates(block=np.ones(3, bool))), full, 1e-6, 1e-6)
    assert np.abs(gated - full).max() > 0.1


def test_a_closed_block_has_no_gradient_and_leaves_the_others_theirs():
    forward, params = tiny.forward(tiny.decoder(depth=3))
    shallow, _ = tiny.forward(tiny.decoder(depth=2))
    tokens, gates = tiny.tokens(B, T), Gates(block=np.array([True, False, True]))
    gradient = tiny.jit(jax.grad(lambda p: jnp.sum(jnp.sin(forward(p, tokens, gates=gates).logits))))(params)
    expected = tiny.jit(jax.grad(lambda p: jnp.sum(jnp.sin(shallow(p, tokens).logits))))(pick(params, [0, 2]))
    tiny.close(pick(gradient, [0, 2]), expected)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(pick(gradient, [1])["stack"]))


def test_gates_may_be_written_as_lists():
    forward, params = tiny.forward(tiny.decoder(depth=3))
    tokens = tiny.tokens(1, 3)
    run = tiny.jit(lambda params, gates: forward(params, tokens, gates=Gates(mixer=gates)).logits)
    tiny.close(run(params, [True, False, True]), run(params, np.array([True, False, True])), 0, 0)


@pytest.mark.parametrize("gates", [np.ones(2), np.ones((4, B, T)), np.float32(1)], ids=["two", "four", "scalar"])
def test_gates_of_another_depth_are_refused(gates):
    forward, params = tiny.forward(tiny.decoder(depth=3))
    with pytest.raises(ValueError, match=r"gates\.mixer has shape .* each of 3 layers"):
        forward(params, tiny.tokens(B, T), gates=Gates(mixer=gates))


def test_layers_drop_different_places():
    """And the same places in every form: a layer's key does not depend on the loop, nor on the second run of remat."""

    def writes(loop, remat, seed):
        forward, params = tiny.forward(tiny.decoder(block="parallel", loop=loop, remat=remat, dropout=0.5))
        run = tiny.jit(
            lambda key: forward(params, tiny.tokens(B, T), key=key, tap=Tap(save="attn_out")).taps["attn_out"]
        )
        return np.asarray(run(jax.random.key(seed)))

    first = writes("scan", "none", 0)
    zero = first == 0
    assert 0.4 < zero.mean() < 0.6
    assert (zero[0] != zero[1]).mean() > 0.3
    assert (zero != (writes("scan", "none", 1) == 0)).mean() > 0.3
    tiny.close(writes("unroll", "none", 0), first)
    tiny.close(writes("scan", "full", 0), first)


def test_rematerialised_dropout_drops_the_same_places_twice():
    """The gradient of a program that runs the forward pass twice, both with the layer's key."""
    key, tokens = jax.random.key(0), tiny.tokens(B, T)

    def gradient(remat):
        forward, params = tiny.forward(tiny.decoder(dropout=0.5, remat=remat))
        return tiny.jit(jax.grad(lambda p: jnp.sum(jnp.sin(forward(p, tokens, key=key).logits))))(params)

    tiny.close(gradient("full"), gradient("none"))


def test_unstack_slices_the_first_axis():
    tree = {"a": np.arange(6.0).reshape(3, 2), "b": jax.random.split(jax.random.key(0), 3)}
    for layer, slices in enumerate(unstack(tree, 3)):
        np.testing.assert_array_equal(slices["a"], tree["a"][layer])
        assert slices["b"] == tree["b"][layer]


def test_a_model_cut_out_of_a_deeper_one_names_each_of_its_layers():
    for kept in [((0, 1), 3), ((), 3), ((0, 3, 1), 3), ((0, -1, 1), 3)]:
        with pytest.raises(SpecError, match=r"Sequential\.kept|LayerSubset\.indices"):
            tiny.draw(tiny.decoder(depth=3, kept=kept))


def test_dropout_and_initial_weights_follow_the_original_index():
    """Layers 2 and 0 of three start as they would there, and drop the places they drop there."""
    whole, cut = (tiny.decoder(depth=d, dropout=0.5, kept=k) for d, k in [(3, None), (2, ((2, 0), 3))])
    build = lambda spec: jax.jit(lambda: nnx.to_pure_dict(nnx.state(spec.build(rngs=nnx.Rngs(0)), nnx.Param)))()  # noqa: E731
    tiny.close(build(cut)["stack"], pick(build(whole), [2, 0])["stack"], 0, 0)
    zeros = []
    for spec in (whole, cut):
        forward, params = tiny.forward(spec)
        run = tiny.jit(
            lambda params, forward=forward: forward(
                params, tiny.tokens(B, T), key=jax.random.key(0), tap=Tap(save="attn_out")
            ).taps["attn_out"]
        )
        zeros.append(np.asarray(run(params)) == 0)
    np.testing.assert_array_equal(zeros[1], zeros[0][[2, 0]])


def test_depth_one():
    forward, params = tiny.forward(tiny.decoder(depth=1))
    unrolled, _ = tiny.forward(tiny.decoder(depth=1, loop="unroll"))
    tiny.close(
        tiny.jit(forward)(params, tiny.tokens(1, 3)).logits, tiny.jit(unrolled)(params, tiny.tokens(1, 3)).logits
    )


@pytest.mark.parametrize("field", ["loop", "remat"])
def test_unknown_forms_are_refused(field):
    # The type checker that the tests may run under refuses a wrong literal before the spec can.
    with pytest.raises((SpecError, TypeCheckError)) as error:
        Sequential(**{field: "maybe"})
    if isinstance(error.value, SpecError):
        assert str(error.value).startswith(f"Sequential.{field}='maybe': must be one of")


def test_dropout_rate_is_a_rate():
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(SpecError, match=r"PreNorm\.dropout"):
            PreNorm(dropout=rate)

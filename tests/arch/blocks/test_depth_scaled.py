"""LayerNorm Scaling: formulas by place, exact identities with pre-norm, and the variance law at the start."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.blocks.depth_scaled import DepthScaledBlock, ScaledInput, ScaledNorm, ScaledResidual, ScaledSublayer
from arch.context import Context, Gates, Result
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.layers.init.initializers import Normal
from arch.layers.linear import Dense
from arch.layers.norms.common import RMSNorm
from arch.layers.norms.depth_scale import DepthScaled, DepthScaledInput
from arch.layers.sublayer import Mixer
from arch.params import ParamFactory
from arch.spec import SpecError
from arch.stacks import Sequential
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.blocks.test_blocks import block_of, context, layer_norm
from tests.arch.stacks.test_sequential import pick

B, T = 2, 5
X = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)


def after_norm(x, f, n, s):
    return x + f(n(x) * s)


def before_norm(x, f, n, s):
    return x + f(n(x * s))


def after_sublayer(x, f, n, s):
    return x + s * f(n(x))


def after_residual(x, f, n, s):
    return s * (x + f(n(x)))


PLACES = {
    ScaledNorm: after_norm,
    ScaledInput: before_norm,
    ScaledSublayer: after_sublayer,
    ScaledResidual: after_residual,
}


@pytest.mark.parametrize("which", ["both", "attention", "feed_forward"])
@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)
def test_formula(kind, which):
    """The block's own sublayers put together by hand; layer 2 from 0 is l = 3."""
    block, ctx, exponent = block_of(kind, which=which, exponent=0.7), context(layer=2), 0.7
    x = X
    for name, scaled in [("mixer", which != "feed_forward"), ("feed_forward", which != "attention")]:
        f = jax.jit(lambda h, name=name: getattr(block, name)(h, ctx).x)
        norm = getattr(block, f"{name}_norm")
        x = PLACES[kind](x, f, lambda h, norm=norm: layer_norm(norm, h), np.float32(3.0**-exponent if scaled else 1.0))
    tiny.close(tiny.jit(lambda x: block(x, ctx).x)(X), x)


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)
def test_one_layer_is_pre_norm_bit_for_bit(kind):
    """1 / sqrt(1) = 1, scanned or not."""
    for loop in ("scan", "unroll"):
        plain = tiny.decoder(depth=1, loop=loop)
        forward, params = tiny.forward(plain)
        scaled, _ = tiny.forward(dataclasses.replace(plain, block=kind(mixer=plain.block.mixer)))
        expected = tiny.jit(lambda params, forward=forward: forward(params, tiny.tokens(B, T)).logits)(params)
        actual = tiny.jit(lambda params, scaled=scaled: scaled(params, tiny.tokens(B, T)).logits)(params)
        np.testing.assert_array_equal(actual, expected)


def test_a_fixed_index_holds_for_every_layer():
    """The index of a group of parallel branches, or of a pruned model, given by hand."""
    block = block_of(ScaledNorm, index=4)
    run = tiny.jit(lambda layer: block(X, context(layer=layer)).x)
    np.testing.assert_array_equal(run(0), run(7))
    tiny.close(run(0), tiny.jit(lambda: block_of(ScaledNorm)(X, context(layer=3)).x)(), 1e-6, 1e-6)


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_the_norm_and_the_block_are_one_function(loop):
    """LayerNorm Scaling as a norm in an ordinary pre-norm block."""
    spec = tiny.decoder(block="scaled_norm", depth=3, loop=loop)
    forward, params = tiny.forward(spec)
    wrapped, _ = tiny.forward(tiny.decoder(norm=DepthScaled(), depth=3, loop=loop))
    blocks = dict(params["stack"]["blocks"])
    for name in ("mixer_norm", "feed_forward_norm"):
        blocks[name] = {"norm": blocks[name]}
    other = {**params, "stack": {"blocks": blocks}}
    tiny.close(
        tiny.jit(lambda p: wrapped(p, tiny.tokens(B, T)).logits)(other),
        tiny.jit(lambda p: forward(p, tiny.tokens(B, T)).logits)(params),
        0,
        0,
    )


def rescaled(params, factors, *paths):
    """`params` with the stacked parameters at `paths` of the blocks multiplied by `factors` [L]."""
    blocks = jax.tree.map(lambda p: p, params["stack"]["blocks"])
    for path in paths:
        node = blocks
        *parents, name = path.split(".")
        for parent in parents:
            node = node[parent]
        node[name] = node[name] * factors.reshape(-1, *(1,) * (node[name].ndim - 1)).astype(np.float32)
    return {**params, "stack": {**params["stack"], "blocks": blocks}}


GAINS = ("mixer_norm.gain", "feed_forward_norm.gain")
OUTPUTS = ("mixer.o.kernel", "feed_forward.down.kernel")
EQUIVALENT = {
    "after_norm": (ScaledNorm, "both", GAINS),
    "attention_only": (ScaledNorm, "attention", GAINS[:1]),
    "feed_forward_only": (ScaledNorm, "feed_forward", GAINS[1:]),
    "after_sublayer": (ScaledSublayer, "both", OUTPUTS),
    "before_norm": (ScaledInput, "both", ()),  # the norm undoes it, at an eps of nothing
}


@pytest.mark.parametrize("case", EQUIVALENT)
def test_a_scaled_model_is_a_pre_norm_model_with_other_weights(case):
    kind, which, paths = EQUIVALENT[case]
    L = 4
    plain = tiny.decoder(depth=L, norm=RMSNorm(1e-30))
    forward, params = tiny.forward(plain)
    block = kind(mixer=plain.block.mixer, norm=plain.block.norm, which=which)
    scaled, _ = tiny.forward(dataclasses.replace(plain, block=block))
    factors = np.arange(1, L + 1) ** -0.5
    expected = tiny.jit(lambda p: forward(p, tiny.tokens(B, T)).logits)(rescaled(params, factors, *paths))
    actual = tiny.jit(lambda p: scaled(p, tiny.tokens(B, T)).logits)(params)
    tiny.close(actual, expected, 1e-5, 1e-6)
    if paths:
        without = tiny.jit(lambda p: forward(p, tiny.tokens(B, T)).logits)(params)
        assert np.abs(actual - without).max() > 0.1


def test_a_rescaled_gain_does_not_learn_as_the_factor_does():
    """Equal functions, then Adam's first step, by the sign of the gradient: the factor does not slow a gain down."""
    L = 4
    forward, params = tiny.forward(tiny.decoder(depth=L))
    scaled, _ = tiny.forward(tiny.decoder(depth=L, block="scaled_norm"))
    start = rescaled(params, np.arange(1, L + 1) ** -0.5, *GAINS)
    tokens = tiny.tokens(B, T)

    def after_a_step(forward, params):
        params = jax.tree.map(jnp.asarray, params)
        grads = jax.grad(lambda p: jnp.mean(jnp.square(forward(p, tokens).logits)))(params)
        return forward(jax.tree.map(lambda p, g: p - 1e-2 * jnp.sign(g), params, grads), tokens).logits

    lns, pre = (tiny.jit(lambda p, f=f: after_a_step(f, p))(p) for f, p in [(scaled, params), (forward, start)])
    assert np.abs(lns - pre).max() > 1e-2


@dataclasses.dataclass(frozen=True)
class Square(Mixer):
    """One matrix of D x D: the sublayer of the variance law."""

    def build(self, width, make):
        return SquareLayer(Dense().build([(width, "embed")], [(width, "embed")], make, name="w", role="residual"))


class SquareLayer(nnx.Module):
    def __init__(self, linear):
        self.linear = linear

    def __call__(self, x, ctx):
        return Result(self.linear(x))


@pytest.mark.parametrize("kind", [PreNorm, ScaledNorm, ScaledSublayer], ids=lambda kind: kind.__name__)
def test_variance_at_the_start_grows_with_the_depth_or_with_its_logarithm(kind):
    """E[v_l] = v_0 + D s^2 l for pre-norm, and v_0 + D s^2 H_l with H_l = 1 + 1/2 + ... + 1/l where scaled."""
    L, width, std, inits = 24, 32, 0.1, 40
    block = kind(mixer=Square(), feed_forward=None, norm=RMSNorm(1e-30))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, width)), jnp.float32)

    def variances(key):
        stack = Sequential().build(block, width, L, ParamFactory(key, Normal(std)))
        tap = Tap(save="resid_post").recorder()
        stack(x, Context(np.arange(4)[None], None, np.arange(4)[None], None, tap=tap))
        return jnp.mean(jnp.square(tap.collect()["resid_post"]), axis=(1, 2, 3))

    v_NL = np.asarray(jax.jit(jax.vmap(variances))(jax.random.split(jax.random.key(0), inits)))
    steps = np.ones(L) if kind is PreNorm else 1 / np.arange(1, L + 1)
    expected = float(jnp.mean(jnp.square(x))) + width * std**2 * np.cumsum(steps)
    error = v_NL.std(axis=0, ddof=1) / np.sqrt(inits)
    assert (np.abs(v_NL.mean(axis=0) - expected) < 3 * error).all()
    assert error[-1] < 0.05 * expected[-1]  # tight enough to tell 24 from H_24 = 3.776


def watched(kind, layer, init=0.3, **attention):
    """The taps of one block with plain gains, in layer `layer` from 0."""
    spec = kind(mixer=Attention(heads=4, **attention), feed_forward=GatedMLP())
    block = spec.build(tiny.D, ParamFactory(jax.random.key(0), Normal(init)))
    recorder = Tap(save=r"attn\.(scores|v)|mlp_out").recorder()
    block(X, context(layer=layer, tap=recorder, gates=Gates(mixer=np.array(False))))
    return recorder.collect()


def test_scores_shrink_with_the_depth_and_values_with_its_root():
    """Queries and keys both carry 1/sqrt(l), so scores carry 1/l; a norm on both takes it away again."""
    plain, scaled = watched(PreNorm, 3), watched(ScaledNorm, 3)
    seen = np.tril(np.ones((T, T), bool))
    scores, expected = (np.asarray(taps["attn.scores"])[..., seen] for taps in (scaled, plain))
    tiny.close(scores, expected / 4)
    tiny.close(scaled["attn.v"], plain["attn.v"] / 2)
    plain, scaled = (watched(kind, 3, qk_norm=RMSNorm(1e-30)) for kind in (PreNorm, ScaledNorm))
    scores, expected = (np.asarray(taps["attn.scores"])[..., seen] for taps in (scaled, plain))
    tiny.close(scores, expected)
    tiny.close(scaled["attn.v"], plain["attn.v"] / 2)


def test_a_gated_feed_forward_in_its_linear_range_shrinks_with_the_depth():
    plain, scaled = (watched(kind, 3, init=1e-4)["mlp_out"] for kind in (PreNorm, ScaledNorm))
    tiny.close(scaled * 1e12, plain * 1e12 / 4, 1e-3, 1e-3)


def test_dropping_a_layer_keeps_the_others_their_factors():
    """The change of the loss by a closed gate is that of a model rebuilt without the layer, at its old indices."""
    L, dropped = 4, 1
    kept = [layer for layer in range(L) if layer != dropped]
    tokens = tiny.tokens(B, T)

    def loss(forward, **arguments):
        def fn(params):
            log_p = jax.nn.log_softmax(forward(params, tokens, **arguments).logits[:, :-1])
            return -jnp.mean(jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=-1))

        return tiny.jit(fn)

    forward, params = tiny.forward(tiny.decoder(block="scaled_norm", depth=L))
    rebuilt, _ = tiny.forward(tiny.decoder(block="scaled_norm", depth=L - 1, kept=(tuple(kept), L)))
    renumbered, _ = tiny.forward(tiny.decoder(block="scaled_norm", depth=L - 1))
    whole = loss(forward)(params)
    gated = loss(forward, gates=Gates(block=np.arange(L) != dropped))(params) - whole
    np.testing.assert_allclose(gated, loss(rebuilt)(pick(params, kept)) - whole, rtol=1e-5, atol=1e-6)
    assert abs(gated - (loss(renumbered)(pick(params, kept)) - whole)) > 1e-3


def test_zero_outputs_make_all_of_them_one_function_at_the_start():
    """Every block is then the identity; the first layer's zero matrices get the same gradient in each."""
    tokens, found = tiny.tokens(B, T), {}
    for name in ("pre", "parallel", "scaled_norm", "scaled_sublayer"):
        forward, params = tiny.forward(tiny.decoder(block=name))
        params = rescaled(params, np.zeros(2), *OUTPUTS)
        blocks = params["stack"]["blocks"]
        for norm in [key for key in blocks if "norm" in key]:
            blocks[norm] = {"gain": np.ones_like(blocks[norm]["gain"])}

        def run(params, forward=forward):
            fn = lambda p: forward(p, tokens).logits  # noqa: E731
            grads = jax.grad(lambda p: jnp.sum(jnp.sin(fn(p))))(params)["stack"]["blocks"]
            return fn(params), grads["mixer"]["o"]["kernel"][0], grads["feed_forward"]["down"]["kernel"][0]

        found[name] = tiny.jit(run)(params)
    for name, values in found.items():
        tiny.close(values, found["pre"], 1e-6, 1e-6)
        assert all(np.abs(value).max() > 0 for value in values), name


def test_the_last_norm_is_not_scaled():
    forward, params = tiny.forward(tiny.decoder(block="scaled_norm", depth=3))
    out = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=Tap(save="final_norm|resid_post")).taps)(params)
    x = np.asarray(out["resid_post"][-1], np.float64)
    y = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6) * params["norm"]["gain"]
    tiny.close(out["final_norm"], y)


@pytest.mark.parametrize(("fields", "line"), [({"exponent": -1.0}, "exponent=-1"), ({"index": 0}, "index=0")])
def test_what_is_refused(fields, line):
    for kind in (ScaledNorm, DepthScaled, DepthScaledInput):
        with pytest.raises(SpecError, match=f"{kind.__name__}.{line}"):
            kind(**fields)


def test_all_places_are_parts_of_one_family():
    assert set(DepthScaledBlock.__subclasses__()) == set(PLACES)

"""The rivals of LayerNorm Scaling against their formulas, in numpy, on random weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PostNorm, SandwichNorm
from arch.blocks.admin import Admin, omegas, profile
from arch.blocks.deep_norm import DeepNorm
from arch.blocks.learned_scale import LayerScale, SkipInit
from arch.blocks.mix_norm import MixNorm
from arch.context import Gates
from arch.layers.attention.softmax import Attention
from arch.layers.embedding_norm import NormedEmbedding
from arch.layers.init.deepnet import DeepNormInit, Xavier
from arch.layers.init.initializers import ROLES, Normal
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.norms.group import GroupNorm
from arch.params import ParamFactory, metadata
from arch.spec import SpecError
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.blocks.test_blocks import context, layer_norm

B, T, L = 2, 5, 6
X = jnp.asarray(np.random.default_rng(1).standard_normal((B, T, tiny.D)), jnp.float32)


def block_of(kind, **fields):
    """A block of a model of L layers, with random gains and biases."""
    spec = kind(mixer=Attention(heads=4), norm=LayerNorm(), **fields)
    make = ParamFactory(jax.random.key(0), Normal(0.3), depth=L)
    graphdef, shapes = nnx.eval_shape(lambda: nnx.split(spec.build(tiny.D, make), nnx.Param))
    rng = np.random.default_rng(0)
    fill = lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape) + (leaf.ndim < 2), jnp.float32)  # noqa: E731
    return nnx.merge(graphdef, jax.tree.map(fill, nnx.to_pure_dict(shapes)))


def by_hand(block, layer, step):
    """`step(x, f, norm, name)` applied for both sublayers of `block`."""
    x = X
    for name in ("mixer", "feed_forward"):
        f = jax.jit(lambda h, name=name: getattr(block, name)(h, context(layer=layer)).x)
        x = step(x, f, lambda h, name=name: layer_norm(getattr(block, f"{name}_norm"), h), name)
    return x


def run(block, layer=0, **fields):
    return tiny.jit(lambda x: block(x, context(layer=layer, **fields)).x)(X)


@pytest.mark.parametrize(("compat", "alpha"), [("paper", (2 * L) ** 0.25), ("lns_code", 2.8284271247461903)])
def test_deep_norm(compat, alpha):
    block = block_of(DeepNorm, compat=compat)
    tiny.close(run(block), by_hand(block, 0, lambda x, f, n, _: n(np.float32(alpha) * x + f(x))))


def test_the_released_alpha_is_that_of_32_layers():
    paper = block_of(DeepNorm).alpha
    released = block_of(DeepNorm, compat="lns_code").alpha
    assert released == pytest.approx((2 * 32) ** 0.25)
    assert paper == pytest.approx(released * (L / 32) ** 0.25)


@pytest.mark.parametrize(("compat", "sign"), [("paper", -1), ("lns_code", 1)])
def test_deep_norm_init(compat, sign):
    """Xavier's spread, times beta for values, attention's output and the feed-forward; queries and keys are left."""
    init = DeepNormInit(compat=compat)
    for role in ROLES:
        value = init(jax.random.key(0), (64, 400), role=role, fan_in=64, depth=L, layer=2)
        beta = (8 * L) ** (sign / 4) if role in ("value", "feed_forward", "residual") else 1.0
        np.testing.assert_allclose(value.std(), beta * np.sqrt(2 / 464), rtol=5 / np.sqrt(2 * value.size))
        assert ("DeepNormInit" in init.describe(role)) == (beta != 1.0)


def test_the_roles_of_the_rule_are_those_weights():
    rows = metadata(nnx.eval_shape(lambda: tiny.decoder(block="deep").build(rngs=nnx.Rngs(0))))
    scaled = {path for path, row in rows.items() if row["role"] in ("value", "feed_forward", "residual")}
    names = ("mixer.v", "mixer.o", "feed_forward.gate", "feed_forward.up", "feed_forward.down")
    assert scaled == {f"stack.blocks.{name}.kernel" for name in names}


@pytest.mark.parametrize("layer", range(L))
def test_mix_norm(layer):
    """floor(0.4 * 6) = 2 layers are post-norm."""
    block = block_of(MixNorm, fraction=0.4)
    post = lambda x, f, n, _: n(x + f(x))  # noqa: E731
    pre = lambda x, f, n, _: x + f(n(x))  # noqa: E731
    tiny.close(run(block, layer), by_hand(block, layer, post if layer < 2 else pre))


@pytest.mark.parametrize(("fraction", "other"), [(0.0, "pre"), (1.0, "post")])
def test_mix_norm_at_its_ends(fraction, other):
    tokens = tiny.tokens(B, T)
    plain = tiny.decoder(block=other)
    block = MixNorm(mixer=plain.block.mixer, norm=plain.block.norm, fraction=fraction)
    mixed, params = tiny.forward(dataclasses.replace(plain, block=block))
    forward, _ = tiny.forward(plain)
    logits = tiny.jit(lambda p: (mixed(p, tokens).logits, forward(p, tokens).logits))(params)
    tiny.close(logits[0], logits[1], 1e-6, 1e-6)


def test_post_norm():
    block = block_of(PostNorm)
    tiny.close(run(block), by_hand(block, 0, lambda x, f, n, _: n(x + f(x))))


@pytest.mark.parametrize("kind", [LayerScale, SkipInit])
def test_learned_scales(kind):
    block = block_of(kind)
    scale = lambda name: np.broadcast_to(getattr(block, f"{name}_scale")[...], X.shape)  # noqa: E731
    tiny.close(run(block), by_hand(block, 0, lambda x, f, n, name: x + scale(name) * f(n(x))))


@pytest.mark.parametrize(("kind", "shape", "start"), [(LayerScale, (tiny.D,), 1e-5), (SkipInit, (), 0.0)])
def test_where_learned_scales_start(kind, shape, start):
    block = kind(mixer=Attention(heads=4)).build(tiny.D, ParamFactory(jax.random.key(0), Normal()))
    for value in (block.mixer_scale[...], block.feed_forward_scale[...]):
        assert value.shape == shape
        np.testing.assert_array_equal(value, np.full(shape, start, np.float32))
    np.testing.assert_allclose(kind(mixer=Attention(heads=4), initial=0.3).initial, 0.3)


def test_skip_init_starts_as_the_identity():
    block = SkipInit(mixer=Attention(heads=4)).build(tiny.D, ParamFactory(jax.random.key(0), Normal(0.3)))
    np.testing.assert_array_equal(run(block), X)


def test_admin():
    block = block_of(Admin)
    omega = lambda name: np.broadcast_to(getattr(block, f"{name}_omega")[...], X.shape)  # noqa: E731
    tiny.close(run(block), by_hand(block, 0, lambda x, f, n, name: n(omega(name) * x + f(x))))


@pytest.mark.parametrize("kind", [DeepNorm, MixNorm, Admin, LayerScale])
def test_closed_gates_leave_the_stream(kind):
    """Per position; an open gate and a closed one of one program."""
    block = block_of(kind)
    mask = np.random.default_rng(2).random((B, T)) < 0.5
    for layer in (0, L - 1):
        full = run(block, layer, gates=Gates(feed_forward=np.array(False)))
        part = run(block, layer, gates=Gates(mixer=mask, feed_forward=np.zeros((B, T), np.float32)))
        for b, t in np.argwhere(~mask):
            tiny.close(part[b, t], X[b, t], 0, 0)
        assert np.abs(part - X).max() > 0.01
        only = run(block, layer, gates=Gates(mixer=np.ones((B, T), bool), feed_forward=np.array(False)))
        tiny.close(only, full, 1e-6, 1e-6)


def test_admin_without_a_profile_starts_from_unit_variances():
    spec = tiny.decoder(block="admin", depth=3)
    blocks = nnx.to_pure_dict(nnx.state(spec.build(rngs=nnx.Rngs(0)), nnx.Param))["stack"]["blocks"]
    first = np.asarray(blocks["mixer_omega"][:, 0]), np.asarray(blocks["feed_forward_omega"][:, 0])
    np.testing.assert_allclose(first, np.sqrt([[1, 3, 5], [2, 4, 6]]), rtol=1e-6)


def test_admin_profile():
    """As in the authors' loop: each ratio is the root of the variances summed so far; rounds reach its fixed point."""
    spec = tiny.decoder(block="admin", depth=2)
    forward, params = tiny.forward(spec)
    tap = Tap(save="embed|attn_out|mlp_out")
    taps = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=tap).taps)
    blocks = omegas(params["stack"]["blocks"], 1.0)
    for _ in range(4):
        seen = taps({**params, "stack": {"blocks": blocks}})
        blocks = profile(blocks, seen, seen["embed"])
    seen = jax.device_get(taps({**params, "stack": {"blocks": blocks}}))
    total, expected = seen["embed"].var(), [1.0]
    for layer, site in [(0, "attn_out"), (0, "mlp_out"), (1, "attn_out")]:
        total = total + seen[site][layer].var()
        expected.append(np.sqrt(total))
    actual = [blocks[f"{name}_omega"][layer, 0] for layer in range(2) for name in ("mixer", "feed_forward")]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert set(blocks) == set(params["stack"]["blocks"])
    assert all(np.ptp(blocks[f"{name}_omega"], axis=1).max() == 0 for name in ("mixer", "feed_forward"))


def test_group_norm():
    norm = GroupNorm(groups=4).build(16, ParamFactory(jax.random.key(0), Normal()))
    rng = np.random.default_rng(0)
    norm.gain[...], norm.bias[...] = (jnp.asarray(rng.standard_normal(16), jnp.float32) for _ in range(2))
    x = rng.standard_normal((B, T, 16)).astype(np.float32)
    y = np.empty_like(x, np.float64)
    for group in range(4):
        part = x[..., 4 * group : 4 * group + 4].astype(np.float64)
        centred = part - part.mean(-1, keepdims=True)
        y[..., 4 * group : 4 * group + 4] = centred / np.sqrt(part.var(-1, keepdims=True) + 1e-5)
    tiny.close(norm(jnp.asarray(x), context()), y * np.asarray(norm.gain[...]) + np.asarray(norm.bias[...]))
    one = GroupNorm(groups=1).build(16, ParamFactory(jax.random.key(0), Normal()))
    plain = LayerNorm().build(16, ParamFactory(jax.random.key(0), Normal()))
    tiny.close(one(jnp.asarray(x), context()), plain(jnp.asarray(x), context()), 1e-6, 1e-6)


def test_peri_ln_is_a_sandwich_with_a_normed_embedding():
    spec = dataclasses.replace(tiny.decoder(block="sandwich"), embedding=NormedEmbedding(norm=RMSNorm()))
    assert isinstance(spec.block, SandwichNorm)
    forward, params = tiny.forward(spec)
    embed = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=Tap(save="embed")).taps["embed"])(params)
    x = params["embedding"]["table"][tiny.tokens(B, T)].astype(np.float64)
    y = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    tiny.close(embed, y * params["embedding"]["norm"]["gain"])


def test_what_is_refused():
    for make, line in [
        (lambda: MixNorm(fraction=1.5), "MixNorm.fraction=1.5"),
        (lambda: Xavier(0.0), "Xavier.gain"),
        (lambda: GroupNorm(groups=0), "GroupNorm.groups"),
        (lambda: GroupNorm(3).build(16, ParamFactory(jax.random.key(0), Normal())), "GroupNorm.groups=3: must divide"),
        (lambda: LayerScale(initial=float("nan")), "LayerScale.initial"),
        (lambda: SkipInit(initial=float("inf")), "SkipInit.initial"),
        (lambda: MixNorm(dropout=1.0), "MixNorm.dropout"),
    ]:
        with pytest.raises(SpecError, match=line):
            make()


@pytest.mark.parametrize("block", ["mix", "deep", "scaled_norm", "admin"])
def test_cached_decoding_is_the_full_forward_pass(block):
    spec = tiny.decoder(block=block)
    forward, params = tiny.forward(spec)
    tokens = tiny.tokens(B, T)

    def run(params):
        first = forward(params, tokens[:, :3], cache=tiny.empty_cache(spec, B, T))
        rest = forward(params, tokens[:, 3:], cache=first.cache)
        return jnp.concatenate([first.logits, rest.logits], axis=1), forward(params, tokens).logits

    tiny.close(*tiny.jit(run)(params))

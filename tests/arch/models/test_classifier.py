"""Classifiers: padding, pooling, pairs, taps, cost; and wide models against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch import cost
from arch.blocks import PreNorm
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.heads.class_heads import LinearHead, MLPHead
from arch.layers.heads.pooling import FirstPooling, MeanPooling
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Learned, NoPosition, Rotary
from arch.models.base import Inputs
from arch.models.classifier import Classifier, Matcher
from arch.spec import SpecError
from arch.stacks import Sequential
from arch.taps import Tap
from tests.arch import tiny

V, D, L, C, T = tiny.V, 16, 2, 5, 10
LENGTHS = (10, 6, 1, 0)
SEGMENTS = (np.arange(T)[None] < np.array(LENGTHS)[:, None]).astype(np.int32)
TOKENS = tiny.tokens(4, T) * SEGMENTS


def spec(kind=Classifier, heads=4, head_dim=3, mixer=None, depth=L, hidden=24, **fields):
    mixer = mixer or Attention(heads=heads, head_dim=head_dim, position=NoPosition(), mask=Bidirectional())
    block = PreNorm(mixer=mixer, feed_forward=MLP(hidden=hidden), norm=LayerNorm())
    return kind(
        **{"vocab": V, "width": D, "depth": depth, "classes": C, "block": block, "position": Learned(T), **fields}
    )


def logits(model, tokens=TOKENS, segments=SEGMENTS, **inputs):
    forward, params = tiny.forward(model)
    return np.asarray(tiny.jit(lambda params: forward(params, tokens, segments=segments, **inputs).logits)(params))


@pytest.mark.parametrize("pooling", [MeanPooling(), FirstPooling()])
def test_padding_has_no_influence(pooling):
    model = spec(pooling=pooling)
    found = logits(model)
    assert found.shape == (4, C)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(logits(model, np.where(SEGMENTS > 0, TOKENS, 7)), found)
    for row, length in enumerate(LENGTHS[:3]):
        tiny.close(logits(model, TOKENS[row : row + 1, :length], None)[0], found[row])


def test_poolings():
    x = np.random.default_rng(0).standard_normal((4, T, D)).astype(np.float32)
    text = jnp.asarray(SEGMENTS > 0)
    mean, first = (np.asarray(pool(jnp.asarray(x), text)) for pool in (MeanPooling(), FirstPooling()))
    for row, length in enumerate(LENGTHS):
        tiny.close(mean[row], x[row, :length].mean(0) if length else np.zeros(D, np.float32))
        tiny.close(first[row], x[row, 0] if length else np.zeros(D, np.float32))
    tiny.close(FirstPooling()(jnp.asarray(x), text[:, ::-1])[1], x[1, T - LENGTHS[1]])
    tiny.close(MeanPooling()(jnp.asarray(x), None), x.mean(1))


def test_a_batch_with_a_row_of_padding_has_a_finite_gradient():
    forward, params = tiny.forward(spec(mixer=LinearAttention(heads=3, head_dim=4)))

    def total(params):
        return jnp.sum(forward(params, TOKENS, segments=SEGMENTS).logits)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tiny.jit(jax.grad(total))(params)))


def test_pairs_go_through_one_encoder():
    """[a, b, a * b, a - b] of the vectors that a classifier pools."""
    model = spec(Matcher, classes=2)
    other, other_segments = tiny.tokens(4, T, seed=1), np.roll(SEGMENTS, 1, axis=0)
    second = Inputs(tokens=other, segments=other_segments)
    forward, params = tiny.forward(model)
    out = tiny.jit(lambda params: forward(params, TOKENS, segments=SEGMENTS, second=second, tap=Tap(save="pooled")))(
        params
    )
    head = params["head"]
    alone, own = tiny.forward(spec(classes=2))
    own = {**{name: params[name] for name in own}, "head": own["head"]}
    pool = tiny.jit(lambda params, t, s: alone(params, t, segments=s, tap=Tap(save="pooled")).taps["pooled"])
    a, b = np.asarray(pool(own, TOKENS, SEGMENTS)), np.asarray(pool(own, other, other_segments))
    tiny.close(out.taps["pooled"][0::2], a)
    tiny.close(out.taps["pooled"][1::2], b)
    hidden = np.concatenate([a, b, a * b, a - b], axis=1) @ head["up"]["kernel"] + head["up"]["bias"]
    tiny.close(out.logits, np.maximum(hidden, 0) @ head["out"]["kernel"] + head["out"]["bias"], rtol=1e-4, atol=1e-4)


def test_taps_see_and_touch():
    model = spec()
    forward, params = tiny.forward(model)
    out = tiny.jit(lambda params: forward(params, TOKENS, segments=SEGMENTS, tap=Tap(save=".*")))(params)
    assert out.taps["resid_post"].shape == (L, 4, T, D)
    assert out.taps["attn.z"].shape == (L, 4, T, 4, 3)
    assert out.taps["pooled"].shape == (4, D)
    tiny.close(out.taps["logits"], out.logits)
    changed = Tap(edit={"pooled": lambda x, layer: 0 * x})
    constant = logits(model, tap=changed)
    np.testing.assert_array_equal(constant[0], constant[1])
    with pytest.raises(ValueError, match="no tap site nothing"):
        forward(params, TOKENS, tap=Tap(save="nothing"))


@pytest.mark.parametrize("mixer", ["softmax", "linear"])
def test_scan_is_unrolled(mixer):
    kinds = {"softmax": None, "linear": LinearAttention(heads=2, head_dim=5)}
    found = [logits(spec(mixer=kinds[mixer], stack=Sequential(loop=loop))) for loop in ("scan", "unroll")]
    tiny.close(*found)


def test_the_layouts_of_wide_attention():
    """At L * h heads in all and a fixed head width: attention constant, feed-forwards and norms as the layers."""
    K, F, total = 3, 24, 12
    sizes = {}
    for depth in (6, 3, 2, 1):
        model = spec(depth=depth, heads=total // depth, head_dim=K, hidden=F)
        rows = cost.metadata(cost.abstract(model))
        count = lambda part, rows=rows: sum(np.prod(row["shape"]) for path, row in rows.items() if part in path)  # noqa: E731
        assert count(".mixer.") == 4 * D * K * total
        assert count(".feed_forward.") == depth * 2 * D * F
        assert count("_norm.") == depth * 4 * D
        sizes[depth] = cost.parameters(model).total
    assert sizes[6] - sizes[1] == 5 * (2 * D * F + 4 * D)


def test_parameters_and_flops():
    model = spec(head=MLPHead(hidden=7))
    H = 4 * 3
    found = cost.parameters(model)
    assert found.embedding == V * D + T * D
    assert found.head == 7 * C
    assert found.body == L * (4 * D * H + 2 * D * 24 + 4 * D) + 2 * D + D * 7 + 7 + C
    projections = T * (4 * D * H + 2 * D * 24)
    assert cost.forward_flops(model, T) == 2 * (L * (projections + 2 * T * T * H) + D * 7 + 7 * C)
    # Linear attention: no T * T, but K * K a token.
    linear = spec(mixer=LinearAttention(heads=4, head_dim=3), head=LinearHead())
    expected = 2 * (L * (projections + T * (2 * H * 3 + H)) + D * C)
    assert cost.forward_flops(linear, T) == expected


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="11 tokens do not fit the 10 positions"):
        logits(spec(), tiny.tokens(2, 11), None)
    with pytest.raises(SpecError, match=r"position=.*belongs to attention"):
        spec(position=Rotary())
    with pytest.raises(SpecError, match="classes=1: must be at least 2"):
        Classifier(classes=1)

"""Answers: the same names and layers in every form of a stack; nothing is answered twice or from outside."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.answers import Answers, Sum, by_name, coupled, mean_over
from arch.blocks import PreNorm
from arch.context import Result
from arch.layers.attention.softmax import Attention
from arch.layers.init.initializers import Normal
from arch.layers.norms.common import NoNorm, RMSNorm
from arch.layers.sublayer import FeedForward
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import ParamFactory, merge
from arch.stacks import Cycle, Grouped, Listed, ParallelStack, Sequential
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.parts import ONE, Counting, TellingNorm, context, drawn
from tests.arch.stacks.by_hand import Squeeze

B, T, D, L = 2, 5, 16, 4
MIXER = Attention(heads=2)


def telling(start=0.0, kind=PreNorm):
    return kind(mixer=MIXER, feed_forward=Counting(start), norm=TellingNorm())


ONE_BLOCK, TWO_BLOCKS = telling(), Cycle((telling(), telling(1.0)))


def model(block=ONE_BLOCK, stack=Sequential(), norm=TellingNorm(), **fields):
    return Decoder(**{"vocab": tiny.V, "width": D, "depth": L, "block": block, "stack": stack, "norm": norm, **fields})


@functools.cache
def run(spec, save="seen|resid_pre|resid_mid|final_norm|embed|resid_post"):
    """The output of `spec` on random tokens."""
    graphdef, params, buffers = drawn(spec)
    call = lambda p, b: merge(graphdef, p, b)(Inputs(tokens=jnp.asarray(tiny.tokens(B, T))), tap=Tap(save=save))  # noqa: E731
    return tiny.jit(call)(params, buffers)


STACKS = {
    "scan": model(),
    "unroll": model(stack=Sequential("unroll")),
    "remat": model(stack=Sequential("scan", "full")),
    "unrolled remat": model(stack=Sequential("unroll", "dots")),
    "parallel": model(stack=ParallelStack()),
    "groups": model(stack=Grouped(groups=2, loop="unroll")),
    "pattern": model(TWO_BLOCKS),
    "unrolled pattern": model(TWO_BLOCKS, Sequential("unroll")),
    "list": model(Listed((telling(), telling(2.0), telling(), telling()))),
    "between": model(stack=Sequential(between=((1, Squeeze()),))),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_form_answers_by_name_and_layer(name):
    """Entry l is layer l's, shown by what its tap saved."""
    out = run(STACKS[name])
    taps = {site: np.asarray(value, np.float64) for site, value in out.taps.items()}
    squares = {
        "feed_forward.size": np.square(taps["seen"]),
        "feed_forward_norm.square": np.square(taps["resid_mid"]),
        "mixer_norm.square": np.square(taps["resid_pre"]),
        "norm.square": np.square(taps["resid_post"][-1])[None],
    }
    if name in ("parallel", "groups"):
        del squares["norm.square"]  # of the sum of branches, which no site shows
    if name == "between":
        assert out.losses["between.size"].total.shape == out.metrics["between.seen"].total.shape == ()
    assert set(out.losses) - {"between.size"} == {"feed_forward.size"}
    assert set(out.metrics) - {"between.seen"} == {*squares, "norm.square", "feed_forward.peak"}
    for told, values in squares.items():
        expected = values.sum(axis=(1, 2, 3))
        np.testing.assert_allclose(np.atleast_1d(out.metrics[told].total), expected, rtol=1e-5)
        np.testing.assert_array_equal(np.atleast_1d(out.metrics[told].weight), np.full(len(expected), B * T * D))
    tiny.close(out.losses["feed_forward.size"], out.metrics["feed_forward.size"], 0, 0)
    peak = out.metrics["feed_forward.peak"]
    assert peak.coupled
    assert not out.losses["feed_forward.size"].coupled
    np.testing.assert_allclose(peak.value, taps["seen"].max(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("name", STACKS)
def test_statistics_go_by_the_path_of_their_part(name):
    """With the axes of its buffers in front: the turns of a loop."""
    out = run(STACKS[name])
    whole = {"stack.blocks.feed_forward": [0, 1, 2, 3]}
    places = {
        "pattern": {"0.0": [0, 2], "0.1": [1, 3]},
        "unrolled pattern": {"0.0": [0, 2], "0.1": [1, 3]},
        "list": {"0.0": [0], "1.0": [1], "2.0": [2, 3]},
        "between": {"0.0": [0], "1.0": [1, 2, 3]},
    }
    wanted = {f"stack.sections.{p}.feed_forward": n for p, n in places.get(name, {}).items()} or whole
    assert set(out.statistics) == set(wanted)
    for path, layers in wanted.items():
        sums = out.statistics[path]
        tiny.close(sums["sum"], out.taps["seen"][np.array(layers)].sum(axis=(1, 2)))
        np.testing.assert_array_equal(sums["rows"], np.full(len(layers), B * T))


def test_a_norm_that_a_group_shares_answers_for_each_group():
    block = PreNorm(mixer=MIXER, feed_forward=Counting(), norm=NoNorm())
    out = run(model(block, Grouped(groups=2, norm=TellingNorm()), norm=None))
    assert set(out.metrics) == {"norm.square", "feed_forward.size", "feed_forward.peak"}
    expected = np.square(np.asarray(out.taps["embed"], np.float64)).sum()
    assert out.metrics["norm.square"].total.shape == (2,)
    np.testing.assert_allclose(out.metrics["norm.square"].total[0], expected, rtol=1e-5)


def test_what_is_answered_reaches_the_gradient():
    """A loss of a scanned layer is differentiated through the scan."""
    spec = model(stack=Sequential("scan", "full"))
    graphdef, params, buffers = drawn(spec)

    def loss(params):
        out = merge(graphdef, params, buffers)(Inputs(tokens=jnp.asarray(tiny.tokens(B, T))))
        return jnp.sum(out.losses["feed_forward.size"].value)

    gradient = tiny.jit(jax.grad(loss))(params)
    gains = np.asarray(gradient["stack"]["blocks"]["feed_forward_norm"]["gain"])
    assert (np.abs(gains).max(axis=1) > 1e-3).all()


MAKE = ParamFactory(jax.random.key(0), Normal())


@dataclasses.dataclass(frozen=True)
class Misbehaving(FeedForward):
    """Answers or visits a site as `how` says."""

    how: str = "twice"

    def build(self, width, make):
        return MisbehavingLayer(self.how, make)


class MisbehavingLayer(nnx.Module):
    def __init__(self, how, make):
        self.how, self.gain = how, make.constant([], 1.0)

    def __call__(self, x, ctx):
        if self.how in ("twice", "outside"):
            ctx.answer(self, metrics={"x": ONE})
            ctx.answer(self if self.how == "twice" else MisbehavingLayer("", MAKE), metrics={"x": ONE})
        if self.how == "kinds":
            ctx.answer(self, metrics={"x": ONE})
            ctx.answer(self, losses={"x": ONE})
        if self.how in ("site", "scopes"):
            first, second = (ctx.scope("a"), ctx.scope("b")) if self.how == "scopes" else (ctx, ctx)
            x = first.tap("x", second.tap("x", x))
        return Result(x * self.gain[...])


def misbehaving(how, stack=Sequential(), save=""):
    block = PreNorm(mixer=MIXER, feed_forward=Misbehaving(how), norm=RMSNorm())
    return run(dataclasses.replace(model(block, stack, RMSNorm()), depth=2), save)


@pytest.mark.parametrize(
    "stack", [Sequential(), Sequential("unroll"), ParallelStack()], ids=["scan", "unroll", "parallel"]
)
def test_answering_twice_or_for_another_is_refused(stack):
    with pytest.raises(ValueError, match=r"^feed_forward\.x: answered twice in one call of PreNormLayer"):
        misbehaving("twice", stack)
    with pytest.raises(ValueError, match=r"^MisbehavingLayer answered, but is no part of the PreNormLayer called"):
        misbehaving("outside", stack)
    out = misbehaving("kinds", stack)  # a loss and a metric may have one name
    assert set(out.losses) == set(out.metrics) == {"feed_forward.x"}


def test_a_site_is_visited_once_and_scopes_tell_two_apart():
    with pytest.raises(ValueError, match=r"^tap site x is visited twice in one call"):
        misbehaving("site", save="x")
    assert set(misbehaving("scopes", save=r".*\.x").taps) == {"a.x", "b.x"}


def test_scopes_are_nested_and_have_keys_of_their_own():
    recorder = Tap(save=".*").recorder()
    ctx = context(key=jax.random.key(0), tap=recorder)
    inner, other = ctx.scope("one").scope("two"), ctx.scope("two").scope("one")
    inner.tap("x", jnp.zeros(1))
    other.tap("x", jnp.ones(2))
    ctx.tap("x", jnp.ones(3))
    assert {site: value.shape for site, value in recorder.collect().items()} == {
        "one.two.x": (1,),
        "two.one.x": (2,),
        "x": (3,),
    }
    assert recorder.collect() == {}
    assert len({jax.random.key_data(one.key).tobytes() for one in (ctx, inner, other, ctx.scope("one"))}) == 4
    assert context().scope("one").key is None
    with pytest.raises(ValueError, match=r"tap site one\.two\.x is visited twice"):
        ctx.scope("one").scope("two").tap("x", jnp.zeros(1))


def test_two_stacks_need_scopes():
    """What layers saved cannot be taken over twice under one name."""
    recorder = Tap(save=".*").recorder()
    recorder.adopt({"attn_out": jnp.zeros(1)})
    with pytest.raises(ValueError, match=r"tap site attn_out is visited twice.*ctx\.scope"):
        recorder.adopt({"attn_out": jnp.zeros(1)})


def test_sums():
    x, w = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    weighted = mean_over(jnp.asarray(x), jnp.asarray(w))
    np.testing.assert_allclose((weighted.total, weighted.weight), ((x * w).sum(), w.sum()), rtol=1e-5)
    plain = mean_over(jnp.asarray(x, jnp.bfloat16))
    assert (plain.total.dtype, float(plain.weight)) == (jnp.float32, 12.0)
    np.testing.assert_allclose(mean_over(jnp.asarray(x)).value, x.mean(), rtol=1e-5)
    assert float(coupled(jnp.float32(3)).value) == 3.0
    nothing = Sum(jnp.zeros(2), jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(nothing.value, np.zeros(2))


def test_names_leave_out_where_in_a_stack_a_layer_is():
    """Loops one after another, the places of a period in turn; section 10 comes behind section 9."""
    entries = lambda *values: Sum(jnp.asarray(values, jnp.float32), jnp.ones(len(values)))  # noqa: E731
    sums = {f"stack.sections.{i}.0.f.x": entries(2.0 * i) for i in range(2, 12)}
    sums |= {"stack.sections.0.0.f.x": entries(0, 2), "stack.sections.0.1.f.x": entries(1, 3)}
    sums |= {"stack.blocks.g.y": entries(7), "head.y": Sum(jnp.float32(1), jnp.float32(1), coupled=True)}
    named = by_name(sums)
    assert set(named) == {"f.x", "g.y", "head.y"}
    np.testing.assert_array_equal(named["f.x"].total, [0, 1, 2, 3, *range(4, 24, 2)])
    assert named["head.y"].coupled
    assert Answers().collect(nnx.Module()).losses == {}
